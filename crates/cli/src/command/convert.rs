//! `forge convert`: a model's tensors in other formats.

use std::path::Path;

use forge::{LoraConfig, Recipe, Rule, Target, convert, paths};

use super::{
    args::ConvertArgs,
    overrides::{started, threads_of_environment},
    term::Conversion,
};
use crate::{
    error::{Error, Result},
    signals::Interrupt,
};

/// Writes the file, and tells how far it is off.
pub(super) fn run(args: &ConvertArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let target = args.target.parse::<Target>().map_err(forge::Error::from)?;
    let rule = |rule: &String| -> Result<Rule> { Ok(rule.parse::<Rule>().map_err(forge::Error::from)?) };
    let rules: Vec<Rule> = args.rules.iter().map(rule).collect::<Result<_>>()?;
    let input = paths::to_read("IN", &args.input, Path::new(""))?;
    let output = paths::to_write("OUT", &args.output, Path::new(""))?;
    let loras = args.lora.iter().map(|lora| Ok(LoraConfig::of_flag(lora)?)).collect::<Result<Vec<_>>>()?;
    let recipe = Recipe { target, rules, loras, partly: args.allow_partial_lora, replaces: args.force };
    let (threads, cancel) = (started(threads_of_environment()?, args.json)?, interrupt.cancel());
    let mut conversion = Conversion::new(args.json, args.report);
    let tell = |written: &_| conversion.written(written);
    let converted = threads.compute(|| convert(&input, &output, &recipe, &cancel, tell));
    conversion.finish(&output, &converted.map_err(Error::or_exists)?)
}
