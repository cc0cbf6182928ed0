//! A flag wins over the file, also where it implies another key.

use std::path::{Path, PathBuf};

use diffusion_engine::Catalog;
use diffusion_engine::{Key, Kind, Pass, Value};
use samplers::Options;

use forge::{
    Config, Img2imgConfig, InpaintConfig, LoraConfig as Lora, STANDARD_OUTPUT, Sampling, ThreadCount, Threads,
    keys::keys,
    paths,
    text_file::{self, STANDARD_INPUT},
};

use super::{
    args::{Txt2ImgArgs, UpscaleArgs},
    term::note,
};
use crate::{
    caches,
    error::{Error, Result},
};

impl UpscaleArgs {
    /// The default config on the device that the command line names.
    pub(super) fn config(&self) -> Result<Config> {
        let mut config = Config::default();
        for (key, texts) in &self.flags.0.given {
            if let (Some(flag), Some(text)) = (key.flag, texts.last()) {
                config.set(key, &key.read(text), &format!("--{flag}"))?;
            }
        }
        if config.device.threads == ThreadCount::ALL_CORES {
            config.device.threads = threads_of_environment()?;
        }
        Ok(config)
    }
}

impl Txt2ImgArgs {
    /// The config that the command line names, or the default one. What flags set of it is not looked at.
    ///
    /// # Errors
    /// Those of [`Config::read`], and [`Error::StandardInputTwice`].
    pub(super) fn config(&self) -> Result<Config> {
        let streams = self.texts().filter(|(_, path)| *path == Path::new(STANDARD_INPUT)).map(|(flag, _)| flag);
        let streams: Vec<_> = streams.collect();
        if streams.len() > 1 {
            return Err(Error::StandardInputTwice { flags: streams.join(" and ") });
        }
        match &self.config {
            Some(path) => Ok(Config::read_without(&file("--config", path)?, &self.set_aside())?),
            None => Ok(Config::default()),
        }
    }

    /// Where the dump goes.
    pub(super) fn dump_file(&self) -> Result<Option<PathBuf>> {
        if self.dump.as_deref() == Some(Path::new(STANDARD_OUTPUT)) {
            let (expected, found) = ("a file".into(), "`-`".into());
            return Err(forge::Error::Value { key: "--dump".into(), expected, found }.into());
        }
        Ok(self.dump.as_deref().map(|path| paths::to_write("--dump", path, Path::new(""))).transpose()?)
    }

    /// The files that are read beside those that the config names.
    pub(super) fn other_files(&self) -> Result<Vec<PathBuf>> {
        let texts = self.texts().map(|(flag, path)| file(flag, path)).collect::<Result<Vec<_>>>()?;
        Ok(texts.into_iter().chain(caches::hashes()).collect())
    }

    /// The texts that flags name, each a file, a pipe or standard input.
    fn texts(&self) -> impl Iterator<Item = (&str, &Path)> {
        let config = self.config.as_deref().map(|path| ("--config", path));
        config.into_iter().chain(self.flags.files.iter().map(|(_, flag, path)| (flag.as_str(), path.as_path())))
    }

    /// The keys of the file that flags stand in the place of.
    fn set_aside(&self) -> Vec<&'static Key> {
        // A folder or a checkpoint on the command line stands for the whole model.
        let model = ["model.folder", "model.checkpoint"].iter().any(|path| self.flags.text(path).is_some());
        let given = self.flags.given.iter().map(|(key, _)| *key).filter(|key| key.kind != Kind::Options);
        let written = self.flags.files.iter().map(|(key, _, _)| *key);
        given.chain(written).chain(keys().filter(|key| model && key.table == "model")).collect()
    }

    /// Puts every given flag in the place of its key, and says which keys of the file it sets aside beside that.
    pub(super) fn override_keys(&self, config: &mut Config, registry: &Catalog) -> Result<Vec<String>> {
        let mut notes = self.set_aside_sampling(config, registry)?;
        for (key, texts) in &self.flags.given {
            if let (Some(flag), Some(text), false) = (key.flag, texts.last(), key.kind == Kind::Options) {
                config.set(key, &key.read(text), &format!("--{flag}"))?;
            }
        }
        for (key, flag, path) in &self.flags.files {
            config.set(key, &Value::Text(words(flag, path)?), flag)?;
        }
        for lora in &self.lora {
            let lora = Lora::of_flag(lora)?;
            // A flag wins over the file.
            config.loras.retain(|other| !other.is_same(&lora));
            config.loras.push(lora);
        }
        config.allow_partial_lora |= self.allow_partial_lora;
        // Who asks for a size has it.
        let is_sized = ["image.width", "image.height"].iter().any(|path| self.flags.text(path).is_some());
        if is_sized && self.flags.text("img2img.scale").is_none() {
            config.img2img.scale = 0.0;
        }
        if let Some(flag) = self.sampler_or_schedule() {
            notes.extend(drop_options(config, registry, flag)?);
        }
        let options = self.flags.given.iter().filter(|(key, _)| key.kind == Kind::Options);
        for (key, option) in options.flat_map(|(key, options)| options.iter().map(move |option| (key, option))) {
            let Some((name, value)) = option.split_once('=') else {
                let (expected, found) = ("NAME=VALUE".to_owned(), format!("`{option}`"));
                return Err(forge::Error::Value { key: key.path(), expected, found }.into());
            };
            let Ok(value) = value.parse();
            config.sampling.options.set(name.trim(), value);
        }
        if config.device.threads == ThreadCount::ALL_CORES {
            config.device.threads = threads_of_environment()?;
        }
        Ok(notes)
    }

    /// A name on the command line may stand for several keys of the file, and wins over all of them.
    fn set_aside_sampling(&self, config: &mut Config, registry: &Catalog) -> Result<Vec<String>> {
        let [sampler, schedule, steps] =
            ["sampling.sampler", "sampling.schedule", "sampling.steps"].map(|path| self.flags.text(path));
        let sampling = &mut config.sampling;
        if let Some(name) = sampler
            && registry.sampler_and_schedule(name)?.1.is_some()
        {
            sampling.schedule = None;
        }
        if schedule.is_some()
            && sampler.is_none()
            && let Ok((sampler, Some(_))) = registry.sampler_and_schedule(&sampling.sampler)
        {
            sampling.sampler = sampler.id.clone();
        }
        let flag = schedule.map(|_| "schedule").or(steps.map(|_| "steps"));
        let Some(flag) = flag.filter(|_| sampling.sigmas.is_some()) else { return Ok(Vec::new()) };
        sampling.sigmas = None;
        Ok(vec![format!("the config's `sigmas` are set aside, as `--{flag}` is given")])
    }

    fn sampler_or_schedule(&self) -> Option<&'static str> {
        let given = |flag: &&str| self.flags.text(&format!("sampling.{flag}")).is_some();
        ["sampler", "schedule"].into_iter().find(given)
    }
}

/// Sets options of the file aside that the sampler and the schedule of the command line don't have.
fn drop_options(config: &mut Config, registry: &Catalog, flag: &str) -> Result<Vec<String>> {
    // Whatever a run starts from, its options are the same.
    let mut from_noise = config.clone();
    (from_noise.img2img, from_noise.inpaint) = (Img2imgConfig::default(), InpaintConfig::default());
    let params = from_noise.request_with(registry, || 0)?.pass.params();
    let Sampling { options, .. } = &mut config.sampling;
    let mut kept = Options::default();
    let mut notes = Vec::new();
    for (name, value) in options.iter() {
        if params.iter().any(|param| param.name == name) {
            kept.set(name, value.clone());
        } else {
            notes
                .push(format!("the config's option `{name}` is set aside: the `--{flag}` given has none of that name"));
        }
    }
    *options = kept;
    Ok(notes)
}

/// The threads of a command that has no run to tell of them.
pub(super) fn started(wanted: ThreadCount, as_event: bool) -> Result<Threads> {
    let threads = Threads::start(wanted);
    threads.note().map_or(Ok(()), |text| note(&text, as_event))?;
    Ok(threads)
}

/// What rayon's programs take for the number of threads, where nothing else says it.
pub(super) fn threads_of_environment() -> Result<ThreadCount> {
    let wanted = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.trim().parse::<usize>().ok());
    Ok(ThreadCount::new(wanted.unwrap_or(0).min(ThreadCount::MAX))?)
}

/// A file that is read twice: for its text and for its pixels.
pub(super) fn read_again(key: &str, path: &Path) -> Result<PathBuf> {
    let path = paths::to_read(key, path, Path::new(""))?;
    if path.exists() && !path.is_file() && !path.is_dir() {
        let (expected, found) = ("a file, as it is read twice".into(), "a pipe or a device".into());
        return Err(forge::Error::Value { key: key.into(), expected, found }.into());
    }
    Ok(path)
}

/// A file that a flag names.
fn file(flag: &str, path: &Path) -> Result<PathBuf> {
    Ok(if path == Path::new(STANDARD_INPUT) { path.to_owned() } else { paths::to_read(flag, path, Path::new(""))? })
}

/// The words of a file, without the line's end that editors put behind them.
fn words(flag: &str, path: &Path) -> Result<String> {
    let path = file(flag, path)?;
    let text = text_file::read(&path, Pass::MAX_PROMPT as u64);
    let text = text.map_err(|source| Error::ReadPrompt { path, source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
