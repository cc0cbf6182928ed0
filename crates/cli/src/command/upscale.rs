//! `forge upscale`: pictures made larger by a network of a file.

use std::path::{Path, PathBuf};

use diffusion_engine::{Error as RunError, PictureFormat, check_writable, read_infotext, sweep};
use forge::{Enlarger, check_apart_from, check_text, paths, with_causes};

use super::{
    args::UpscaleArgs,
    overrides::{read_again, started},
    term::{Enlarging, note},
};
use crate::{error::Result, signals::Interrupt};

/// What is filled in for the name of a picture without its ending, and for its number.
const FIELDS: [&str; 2] = ["{name}", "{index}"];

pub(super) fn run(args: &UpscaleArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let config = args.config()?;
    let inputs = args.inputs.iter().map(|path| read_again("IN", path)).collect::<Result<Vec<_>>>()?;
    let model = paths::to_read("--model", &args.model, Path::new(""))?;
    let outputs = outputs(args, &inputs)?;
    check_apart_from("--output", &outputs, &[inputs.clone(), vec![model.clone()]].concat())?;
    for path in &outputs {
        check_writable(path).map_err(|source| forge::Error::Write { path: path.clone(), source })?;
        path.parent().map(sweep);
    }
    let enlarger = Enlarger::open(&model, &config, started(config.device.threads, args.json)?)?;
    let mut told = Enlarging::new(args.json);
    told.begin(&enlarger.about())?;
    let mut unsynced = Ok(());
    for (input, output) in inputs.iter().zip(&outputs) {
        let picture = enlarger.read(input)?;
        let format = PictureFormat::of(output, args.quality).unwrap_or(PictureFormat::Png);
        let infotext = match read_infotext(input) {
            Err(RunError::NoInfotext { .. }) => String::new(),
            Err(error) if !matches!(error, RunError::Read { .. }) => {
                note(&format!("the text of `{}` is left out: {}", input.display(), with_causes(&error)), args.json)?;
                String::new()
            }
            read => read?,
        };
        holds(format, &infotext, enlarger.size(&picture, args.scale)?)?;
        let larger =
            enlarger.enlarge(&picture, args.scale, &interrupt.cancel(), &|done, all| told.further(done, all))?;
        match larger.save_as(output, format, &infotext) {
            Err(error @ RunError::Unsynced { .. }) => unsynced = Err(error),
            saved => saved?,
        }
        told.written(input, output, [larger.width, larger.height])?;
    }
    told.finish();
    Ok(unsynced?)
}

/// Refuses before the work what a format has no room for.
fn holds(format: PictureFormat, infotext: &str, [width, height]: [usize; 2]) -> Result<()> {
    let longest = format.longest_side();
    if width.max(height) > longest {
        let expected = format!("a picture with sides of {longest} at most, as its format has them");
        let found = format!("{width}x{height}");
        return Err(forge::Error::Value { key: "--output".into(), expected, found }.into());
    }
    Ok(check_text(format, infotext)?)
}

/// Where each picture goes, once no two have one name.
fn outputs(args: &UpscaleArgs, inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let pattern = paths::to_write("--output", &args.output, Path::new(""))?;
    let wrong = |expected: String| {
        let found = format!("`{}`", args.output.display());
        forge::Error::Value { key: "--output".into(), expected, found }
    };
    if PictureFormat::of(&pattern, args.quality).is_none() {
        return Err(wrong(format!("a name that ends in {}", PictureFormat::ENDINGS)).into());
    }
    let text = pattern.to_str().ok_or_else(|| wrong("a name in UTF-8".into()))?;
    if inputs.len() > 1 && !FIELDS.iter().any(|field| text.contains(field)) {
        return Err(wrong("`{name}` or `{index}` in it, as there are several pictures".into()).into());
    }
    if FIELDS.iter().fold(text.to_owned(), |rest, field| rest.replace(field, "")).contains(['{', '}']) {
        return Err(wrong("no braces but `{name}` and `{index}`".into()).into());
    }
    let filled = |(index, input): (usize, &PathBuf)| {
        let name = input.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let [of_name, of_index] = FIELDS;
        // What a picture's own name brings is not filled in again.
        let parts = text.split(of_name).map(|part| part.replace(of_index, &index.to_string()));
        PathBuf::from(parts.collect::<Vec<_>>().join(&name))
    };
    Ok(inputs.iter().enumerate().map(filled).collect())
}
