//! `forge plan`: what a run would hold of memory, from the headers of its model's files alone.

use diffusion_engine::Catalog;
use forge::Forge;

use super::{
    args::Txt2ImgArgs,
    overrides::started,
    term::show_plan,
    txt2img::{job, of_other_words, random_seed},
};
use crate::error::Result;

pub(super) fn run(registry: &Catalog, args: &Txt2ImgArgs) -> Result<()> {
    let mut config = args.config()?;
    args.override_keys(&mut config, registry)?;
    let request = config.request_with(registry, random_seed)?.checked()?;
    let dumps = args.dump_file()?.is_some();
    let forge = Forge::load_on(&config, started(config.device.threads, false)?)?;
    let job = |request| job(&config, request, dumps);
    let jobs = config.requests_of(request)?.into_iter().map(job).collect::<Result<Vec<_>>>()?;
    let plans = forge.plan_all(of_other_words(&jobs))?;
    plans.first().map_or(Ok(()), |largest| show_plan(forge.name(), largest, forge.ceiling(), args.json))
}
