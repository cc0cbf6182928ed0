//! What stands beside a model's first part and says how it was trained.

use std::path::{Path, PathBuf};

use diffusion_engine::family::{Parts, Settings};

use crate::{
    Error, Result,
    model_files::{MODEL_INDEX, read_object},
    text_file,
};

/// The longest YAML file that is read beside a model, in bytes; those of releases have a few thousand.
const LONGEST_YAML: u64 = 1 << 20;

/// A model's parts with what stands beside the first of them: the config of its folder's scheduler, or a YAML file of its file's name.
pub(crate) fn beside(first: Option<&Path>, parts: Parts) -> Result<Parts> {
    let Some(first) = first else { return Ok(parts) };
    let yaml = first.with_extension("yaml");
    if !first.is_dir() && yaml.is_file() {
        return match text_file::read(&yaml, LONGEST_YAML) {
            Ok(text) => Ok(parts.yaml(text)),
            Err(source) => Err(Error::ReadConfig { path: yaml, source }),
        };
    }
    match scheduler(first) {
        Some(path) => Ok(parts.scheduler(Settings::of(read_object(&path)?))),
        None => Ok(parts),
    }
}

/// The config of the scheduler of a whole model's folder, where a part's folder, or a file in that, is the first part.
pub(crate) fn scheduler(first: &Path) -> Option<PathBuf> {
    let part = if first.is_dir() { Some(first) } else { first.parent() };
    // Whatever else a file lies in, a whole model's folder says that it is one.
    let whole = part?.parent().filter(|whole| first.is_dir() || whole.join(MODEL_INDEX).is_file())?;
    Some(whole.join("scheduler").join("scheduler_config.json")).filter(|path| path.is_file())
}
