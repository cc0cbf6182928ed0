//! What stands beside a model's first part and says how it was trained and is used.

use std::path::{Path, PathBuf};

use diffusion_engine::family::{Parts, Settings};
use serde_json::Value;

use crate::{
    Error, Families, Result,
    model_files::{CONFIG, MODEL_INDEX, ModelConfig, ModelFile, object_of, read_object},
    text_file,
};

/// What a file calls the texts that stood beside the one that it was converted from: a YAML file, a scheduler's config, and a folder's index.
const YAML: &str = "forge.yaml";
const SCHEDULER: &str = "forge.scheduler";
const PIPELINE: &str = "forge.pipeline";

/// The longest YAML file that is read beside a model, in bytes; those of releases have a few thousand.
const LONGEST_YAML: u64 = 1 << 20;

/// What texts say of a model that are of none of its parts.
#[derive(Default)]
struct Told {
    yaml: Option<String>,
    scheduler: Option<Value>,
    pipeline: Option<Value>,
}

impl Told {
    /// By what stands beside a model's first part: a YAML file of its file's name, or the config of its folder's scheduler and the folder's index.
    fn beside(first: &Path) -> Result<Self> {
        let yaml = first.with_extension("yaml");
        if !first.is_dir() && yaml.is_file() {
            return match text_file::read(&yaml, LONGEST_YAML) {
                Ok(text) => Ok(Self { yaml: Some(text), ..Self::default() }),
                Err(source) => Err(Error::ReadConfig { path: yaml, source }),
            };
        }
        let read = |path: Option<PathBuf>| path.map(|path| read_object(&path)).transpose();
        Ok(Self { yaml: None, scheduler: read(scheduler(first))?, pipeline: read(index(first))? })
    }

    /// By what a file keeps of that.
    fn kept<'n>(file: &Path, note: impl Fn(&str) -> Option<&'n str>) -> Result<Self> {
        let object = |key| note(key).map(|text| object_of(file, text.as_bytes())).transpose();
        Ok(Self { yaml: note(YAML).map(str::to_owned), scheduler: object(SCHEDULER)?, pipeline: object(PIPELINE)? })
    }

    /// By the folder that other parts are of: what it says of the pipeline, and not of a network that is none of it.
    fn of_folder(whole: &Path) -> Result<Self> {
        let index = whole.join(MODEL_INDEX);
        Ok(Self { pipeline: index.is_file().then(|| read_object(&index)).transpose()?, ..Self::default() })
    }

    /// The same, and of what it does not say the word of another. How a model was trained is said by one of two texts.
    fn or(self, other: Self) -> Self {
        let is_told = self.yaml.is_some() || self.scheduler.is_some();
        let training = if is_told { (self.yaml, self.scheduler) } else { (other.yaml, other.scheduler) };
        Self { yaml: training.0, scheduler: training.1, pipeline: self.pipeline.or(other.pipeline) }
    }
}

/// A model's parts with what is told beside the first of them, in its file, or else in the folder that the others are of.
pub(crate) fn beside(first: Option<&Path>, folder: Option<&Path>, parts: Parts) -> Result<Parts> {
    let Some(first) = first else { return Ok(parts) };
    let told = Told::beside(first)?.or(Told::kept(first, |key| parts.iter().next()?.note(key))?);
    let Told { yaml, scheduler, pipeline } = match folder {
        Some(folder) => told.or(Told::of_folder(folder)?),
        None => told,
    };
    let parts = parts.scheduler(scheduler.map(Settings::of).unwrap_or_default());
    let parts = parts.pipeline(pipeline.map(Settings::of).unwrap_or_default());
    Ok(match yaml {
        Some(text) => parts.yaml(text),
        None => parts,
    })
}

/// What lies beside a model and says what its tensors don't, as notes of the file that it becomes.
pub(crate) fn kept(file: &ModelFile, families: &Families) -> Result<Vec<(&'static str, String)>> {
    let Told { yaml, scheduler, pipeline } =
        Told::beside(&file.path)?.or(Told::kept(&file.path, |key| file.note(key))?);
    let networks = file.parts.iter().filter_map(|part| families.network_of(&part.kind));
    let mut configs = networks.map(|network| Ok(ModelConfig::of(file, network)?.config));
    let config = configs.find_map(Result::transpose).transpose()?;
    let texts = [
        (YAML, yaml),
        (SCHEDULER, scheduler.map(|json| json.to_string())),
        (PIPELINE, pipeline.map(|json| json.to_string())),
        (CONFIG, config.map(|config| config.text())),
    ];
    Ok(texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())
}

/// The config of the scheduler of a whole model's folder, where a part's folder, or a file in that, is the first part.
pub(crate) fn scheduler(first: &Path) -> Option<PathBuf> {
    Some(whole(first)?.join("scheduler").join("scheduler_config.json")).filter(|path| path.is_file())
}

/// The index of a whole model's folder, where a part's folder, or a file in that, is the first part.
pub(crate) fn index(first: &Path) -> Option<PathBuf> {
    Some(whole(first)?.join(MODEL_INDEX)).filter(|path| path.is_file())
}

/// A whole model's folder, where a part's folder, or a file in that, is the first part.
fn whole(first: &Path) -> Option<&Path> {
    let part = if first.is_dir() { Some(first) } else { first.parent() };
    // Whatever else a file lies in, a whole model's folder says that it is one.
    part?.parent().filter(|whole| first.is_dir() || whole.join(MODEL_INDEX).is_file())
}
