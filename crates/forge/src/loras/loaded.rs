//! The LoRAs that are in a loaded model, and how much each of them counts now.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lora::{Adapter, Blocks, Dora, LoraFile, Target};

use super::{Asked, Metadata, metadata};
use crate::{Error, Result, model_files::open_file};

/// A LoRA in a model.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) adapter: Adapter,
}

/// All that are in a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoraSet {
    pub(crate) loras: Arc<Vec<Loaded>>,
    /// Runs of one model take turns, as its strengths are those of one of them.
    turn: Arc<Mutex<()>>,
}

/// The strengths of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strengths {
    set: LoraSet,
    /// By their places in the set.
    asked: Vec<(usize, Asked)>,
}

impl LoraSet {
    pub(crate) fn of(loras: Vec<Loaded>) -> Self {
        Self { loras: Arc::new(loras), turn: Arc::default() }
    }

    /// Whether all of these files are in it.
    pub(crate) fn has(&self, paths: &[PathBuf]) -> bool {
        paths.iter().all(|path| self.place(path).is_some())
    }

    fn place(&self, path: &Path) -> Option<usize> {
        self.loras.iter().position(|loaded| loaded.path == path)
    }

    /// What a run asks for of it; of one that is asked for twice, the last time counts.
    pub(crate) fn strengths(&self, asked: Vec<(PathBuf, Asked)>) -> Strengths {
        let asked = asked.into_iter().filter_map(|(path, asked)| Some((self.place(&path)?, asked)));
        Strengths { set: self.clone(), asked: asked.collect() }
    }
}

impl Strengths {
    /// Sets them for a step, from 1, or for the encoding of the words; nobody else does until what is given back is dropped.
    pub(crate) fn set(&self, step: Option<usize>) -> Option<MutexGuard<'_, ()>> {
        if self.set.loras.is_empty() {
            return None;
        }
        let turn = self.set.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, loaded) in self.set.loras.iter().enumerate() {
            let asked = self.asked.iter().rfind(|(of, _)| *of == place).map(|(_, asked)| asked);
            match asked.filter(|asked| step.is_none_or(|step| asked.steps.contain(step))) {
                Some(Asked { model, text, blocks, .. }) => loaded.adapter.set(*model, *text, blocks),
                None => loaded.adapter.set(0.0, 0.0, &Blocks::default()),
            }
        }
        Some(turn)
    }

    /// What text encoders make of a prompt under them is another than under others.
    pub(crate) fn of_text(&self) -> String {
        let counts = self.asked.iter().filter(|(_, asked)| asked.text != 0.0);
        counts
            .map(|(place, asked)| {
                format!("{}={}/{:?};", self.set.loras[*place].path.display(), asked.text, asked.blocks)
            })
            .collect()
    }
}

/// Reads a LoRA file and finds its place in a model.
///
/// # Errors
/// A file that is none or does not fit, or fits in part where that is not allowed.
pub(crate) fn fit(path: &Path, model: &str, targets: &[Target], partly: bool) -> Result<lora::Fitted> {
    let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let (file, _) = read(path).map_err(load)?;
    let fitted = file.fitted(model, targets, Dora::default())?;
    Ok(if partly { fitted } else { fitted.whole()? })
}

/// Reads a LoRA file with what is said in it and beside it, and its metadata.
pub(crate) fn read(path: &Path) -> Result<(LoraFile, Metadata)> {
    let file = open_file(path)?;
    let metadata = metadata(path)?;
    let read = LoraFile::read(&file)?;
    let read = match metadata.get("lora_adapter_metadata") {
        Some(config) => read.configured(config),
        None => read,
    };
    let beside = path.with_file_name("adapter_config.json");
    let is_pefts = path.file_name().is_some_and(|name| name == "adapter_model.safetensors");
    if is_pefts && beside.is_file() {
        let text = crate::text_file::read(&beside, LONGEST_CONFIG);
        let text = text.map_err(|source| Error::ReadConfig { path: beside, source })?;
        return Ok((read.configured(&text), metadata));
    }
    Ok((read, metadata))
}

/// The longest `adapter_config.json` that is read, in bytes.
const LONGEST_CONFIG: u64 = 1 << 20;
