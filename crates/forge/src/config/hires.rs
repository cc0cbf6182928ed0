//! The second pass of a config, and the models beside its own.

use std::path::Path;

use diffusion_engine::{Catalog, Hires, HiresSize, Refiner};
use samplers::{Options, Sampler, Schedule};

use super::{Config, HiresUpscaler, Lora, Model, list::find};
use crate::{Error, Result, opened_device::opened_device, upscaler_file::upscaler_file};

impl Config {
    /// The second pass, if the config asks for one.
    ///
    /// # Errors
    /// [`Error::Registry`] for a name that does not exist, [`Error::Value`] for a sampler's name that ends in another schedule than the one
    /// that is given, or for settings of a second pass without its size; [`Error::Load`] for a file that is no upscaler's.
    pub(super) fn second_pass(&self, registry: &Catalog) -> Result<Option<Hires>> {
        let table = &self.hires;
        let size = match (table.scale, table.width, table.height) {
            (_, Some(_), _) | (_, _, Some(_)) => {
                HiresSize::Sides { width: table.width.unwrap_or(0), height: table.height.unwrap_or(0) }
            }
            (Some(scale), None, None) => HiresSize::Scale(scale),
            (None, None, None) if *table == super::tables::Hires::default() => return Ok(None),
            (None, None, None) => {
                return Err(Error::Value {
                    key: "hires.scale".into(),
                    expected: "a number, or `hires.width` or `hires.height`, as a second pass is asked for".into(),
                    found: "nothing".into(),
                });
            }
        };
        let names =
            table.sampler.as_deref().map(|sampler| named(registry, "hires", sampler, table.schedule.as_deref()));
        let (sampler, schedule) = match names.transpose()? {
            Some((sampler, schedule)) => (Some(sampler), schedule),
            None => (None, table.schedule.as_deref().map(|name| registry.schedule(name)).transpose()?),
        };
        let mut knobs = Options::default();
        if let (Some(guidance), Some(key)) = (table.guidance, find("sampling", "guidance")) {
            knobs.set(key.name, samplers::Value::Number(guidance));
        }
        let prompt =
            if table.prompt.is_empty() { String::new() } else { self.with_loras(&table.prompt, &table.negative)? };
        Ok(Some(Hires {
            upscaler: match &table.upscaler {
                HiresUpscaler::Plain(plain) => plain.clone(),
                HiresUpscaler::File(path) => {
                    let (device, compute) =
                        opened_device(&self.device.backend.to_string(), || self.upscaling_compute())?;
                    upscaler_file(path, device, compute)?
                }
            },
            steps: table.steps,
            strength: table.strength,
            sampler,
            schedule,
            cfg: table.cfg.clone(),
            knobs,
            prompt,
            negative: table.negative.clone(),
            model: table.checkpoint.as_deref().map(called).unwrap_or_default(),
            ..Hires::of(size)
        }))
    }

    /// The model that takes over, if the config names one.
    pub(super) fn refiner(&self) -> Option<Refiner> {
        let name = called(self.refiner.checkpoint.as_deref()?);
        Some(Refiner { name, switch_at: self.refiner.switch_at, passes: self.refiner.passes })
    }

    /// The same config for a model of one file. An autoencoder that the config names is its too.
    pub(crate) fn of_checkpoint(&self, checkpoint: &Path) -> Self {
        let vae = self.model.vae.clone();
        let model = Model { checkpoint: Some(checkpoint.to_owned()), vae, ..Model::default() };
        Self { model, ..self.clone() }
    }

    /// A prompt that asks for the config's LoRAs too, so that a picture's text says all of it.
    ///
    /// # Errors
    /// As [`Lora::names`].
    pub(super) fn with_loras(&self, positive: &str, negative: &str) -> Result<String> {
        let names = Lora::names(&self.loras)?;
        let tags = self.loras.iter().zip(&names).filter_map(|(lora, name)| lora.tag(name, [positive, negative]));
        Ok(tags.fold(positive.to_owned(), |prompt, tag| match prompt.is_empty() {
            true => tag,
            false => format!("{prompt} {tag}"),
        }))
    }
}

/// What infotexts call a model by its file.
fn called(checkpoint: &Path) -> String {
    checkpoint.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A sampler by its name, and the schedule that this or another key of a table names.
pub(super) fn named(
    registry: &Catalog,
    table: &str,
    sampler: &str,
    schedule: Option<&str>,
) -> Result<(Sampler, Option<Schedule>)> {
    let (found, named) = registry.sampler_and_schedule(sampler)?;
    let given = schedule.map(|name| registry.schedule(name)).transpose()?;
    match (given, named) {
        (Some(given), Some(named)) if given != named => Err(Error::Value {
            key: format!("{table}.schedule"),
            expected: format!("`{}`, as the sampler `{sampler}` says", named.id),
            found: format!("`{}`", given.id),
        }),
        (given, named) => Ok((found, given.or(named))),
    }
}
