//! What stands beside a model's first part and says how it was trained.

use std::path::{Path, PathBuf};

use diffusion_engine::family::{Parts, Settings};

use crate::{
    Error, Families, Result,
    model_files::{CONFIG, MODEL_INDEX, ModelConfig, ModelFile, object_of, read_object},
    text_file,
};

/// What a file calls the text of a scheduler's config, and that of a YAML file, that stood beside the one that it was converted from.
const SCHEDULER: &str = "forge.scheduler";
const YAML: &str = "forge.yaml";

/// The longest YAML file that is read beside a model, in bytes; those of releases have a few thousand.
const LONGEST_YAML: u64 = 1 << 20;

/// How a model was trained, as texts say that are of none of its parts.
enum Training {
    Yaml(String),
    Scheduler(serde_json::Value),
}

impl Training {
    /// Of what stands beside a model's first part: the config of its folder's scheduler, or a YAML file of its file's name.
    fn beside(first: &Path) -> Result<Option<Self>> {
        let yaml = first.with_extension("yaml");
        if !first.is_dir() && yaml.is_file() {
            return match text_file::read(&yaml, LONGEST_YAML) {
                Ok(text) => Ok(Some(Self::Yaml(text))),
                Err(source) => Err(Error::ReadConfig { path: yaml, source }),
            };
        }
        scheduler(first).map(|path| read_object(&path).map(Self::Scheduler)).transpose()
    }

    /// Of what a file keeps of that.
    fn kept<'n>(file: &Path, note: impl Fn(&str) -> Option<&'n str>) -> Result<Option<Self>> {
        match (note(YAML), note(SCHEDULER)) {
            (Some(text), _) => Ok(Some(Self::Yaml(text.to_owned()))),
            (None, Some(json)) => Ok(Some(Self::Scheduler(object_of(file, json.as_bytes())?))),
            (None, None) => Ok(None),
        }
    }
}

/// A model's parts with what stands beside the first of them and says how it was trained, or what its file keeps of that.
pub(crate) fn beside(first: Option<&Path>, parts: Parts) -> Result<Parts> {
    let Some(first) = first else { return Ok(parts) };
    let training = match (Training::beside(first)?, parts.iter().next()) {
        (None, Some(part)) => Training::kept(first, |key| part.note(key))?,
        (training, _) => training,
    };
    Ok(match training {
        Some(Training::Yaml(text)) => parts.yaml(text),
        Some(Training::Scheduler(json)) => parts.scheduler(Settings::of(json)),
        None => parts,
    })
}

/// What lies beside a model and says what its tensors don't, as notes of the file that it becomes.
pub(crate) fn kept(file: &ModelFile, families: &Families) -> Result<Vec<(&'static str, String)>> {
    let training = match Training::beside(&file.path)? {
        None => Training::kept(&file.path, |key| file.note(key))?,
        training => training,
    };
    let training = training.map(|training| match training {
        Training::Yaml(text) => (YAML, text),
        Training::Scheduler(json) => (SCHEDULER, json.to_string()),
    });
    let networks = file.parts.iter().filter_map(|part| Some(part.kind.network(&families.role_of(&part.kind)?.network)));
    let mut configs = networks.map(|network| Ok(ModelConfig::of(file, network)?.config));
    let config = configs.find_map(Result::transpose).transpose()?;
    Ok(training.into_iter().chain(config.map(|config| (CONFIG, config.text()))).collect())
}

/// The config of the scheduler of a whole model's folder, where a part's folder, or a file in that, is the first part.
pub(crate) fn scheduler(first: &Path) -> Option<PathBuf> {
    let part = if first.is_dir() { Some(first) } else { first.parent() };
    // Whatever else a file lies in, a whole model's folder says that it is one.
    let whole = part?.parent().filter(|whole| first.is_dir() || whole.join(MODEL_INDEX).is_file())?;
    Some(whole.join("scheduler").join("scheduler_config.json")).filter(|path| path.is_file())
}
