//! The LoRAs that are in a loaded model, and how much each of them counts now.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use core_tensor::WeightSource;
use diffusion_engine::{Embedding, LentEmbeddings};
use lora::{Adapted, Adapter, Blocks, Dora, LoraFile, Target};
use quant::Decoded;

use super::{Asked, Metadata, metadata};
use crate::{
    Error, Result,
    model_files::{TensorFile, open_file},
};

/// Which state of a file it is: its length and when it was written.
pub(crate) type Version = Option<(u64, SystemTime)>;

/// The state of a file now.
pub(crate) fn version(path: &Path) -> Version {
    fs::metadata(path).ok().and_then(|file| Some((file.len(), file.modified().ok()?)))
}

/// A LoRA in a model. It leaves it when nobody holds it any more.
#[derive(Debug)]
pub(crate) struct LoadedLora {
    path: PathBuf,
    /// Which states it was read from, of the file and of the config beside it.
    versions: [Version; 2],
    dora: Dora,
    /// By what prompts that were encoded under it are known.
    key: String,
    /// What it is called in the parts: nothing else is, as one that leaves may still be there while the same file is put in anew.
    name: String,
    adapter: Adapter,
    places: Vec<Arc<Adapted>>,
    /// Words that it brings, which prompts may name beside it.
    embeddings: Vec<Embedding>,
}

/// How many were put in so far.
static PUT: AtomicU64 = AtomicU64::new(0);

impl Drop for LoadedLora {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| place.take(&self.name));
    }
}

/// All that are in a model.
#[derive(Clone, Debug)]
pub(crate) struct LoraSet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What they are put into, by the parts' keys.
    places: BTreeMap<String, Arc<Adapted>>,
    /// Where prompts find the words that they bring; `None` where the model takes none.
    lent: Option<LentEmbeddings>,
    loaded: Mutex<Vec<Weak<LoadedLora>>>,
    /// Runs take turns, as the strengths are those of one of them; those between which no LoRA is in the model go on side by side.
    turn: RwLock<()>,
}

/// The strengths of a run.
#[derive(Clone, Debug)]
pub(crate) struct Strengths {
    set: LoraSet,
    asked: Vec<(Arc<LoadedLora>, Asked)>,
}

/// A time in which nobody else sets strengths.
#[must_use]
#[derive(Debug)]
pub(crate) enum Turn<'s> {
    /// Others without a LoRA compute beside it.
    Shared(#[expect(dead_code, reason = "held until it is dropped")] RwLockReadGuard<'s, ()>),
    /// Nobody does.
    Alone(#[expect(dead_code, reason = "held until it is dropped")] RwLockWriteGuard<'s, ()>),
}

impl LoraSet {
    /// None, in parts that they may be put into; what they bring of words goes to `lent`.
    pub(crate) fn of(places: BTreeMap<String, Arc<Adapted>>, lent: Option<LentEmbeddings>) -> Self {
        Self(Arc::new(Inner { places, lent, loaded: Mutex::default(), turn: RwLock::default() }))
    }

    /// The LoRA of a file, which is put in if it is not yet, into parts of a model by its name and targets.
    ///
    /// # Errors
    /// A file that is none or does not fit, or fits in part where that is not allowed.
    pub(crate) fn get(
        &self,
        (path, dora): (&Path, Dora),
        model: impl FnOnce() -> Result<(String, Vec<Target>)>,
        partly: bool,
    ) -> Result<Arc<LoadedLora>> {
        let Inner { places, lent, loaded, .. } = &*self.0;
        let versions = [version(path), version(&config_beside(path))];
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |lora: &Arc<LoadedLora>| lora.path == path && lora.versions == versions && lora.dora == dora;
        if let Some(known) = loaded.iter().filter_map(Weak::upgrade).find(is_it) {
            return Ok(known);
        }
        let (model, targets) = model()?;
        let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
        let (file, _) = read(path).map_err(load)?;
        let fitted = file.fitted(&model, &targets, dora)?;
        let fitted = if partly { fitted } else { fitted.whole()? };
        let embeddings = match lent {
            Some(_) => file.embeddings()?,
            None if partly || file.words().len() == 0 => Vec::new(),
            None => {
                let words = file.words().map(str::to_owned).collect();
                return Err(load(Error::LoraWords { model, words }));
            }
        };
        let key = format!("{} {versions:?} {dora:?}", path.display());
        let put: Vec<_> = targets.iter().enumerate().filter_map(|(at, t)| Some((at, places.get(&t.part)?))).collect();
        let places: Vec<_> = put.iter().map(|(_, place)| (*place).clone()).collect();
        let name = format!("{key} {}", PUT.fetch_add(1, Ordering::Relaxed));
        let put = put.iter().try_for_each(|(at, place)| place.put(&name, fitted.branches(*at)));
        put.map_err(|error| {
            places.iter().for_each(|place: &Arc<Adapted>| place.take(&name));
            load(error.into())
        })?;
        let lora = Arc::new(LoadedLora {
            path: path.to_owned(),
            versions,
            dora,
            key,
            name,
            adapter: fitted.adapter,
            places,
            embeddings,
        });
        loaded.retain(|lora| lora.strong_count() > 0);
        loaded.push(Arc::downgrade(&lora));
        Ok(lora)
    }

    /// What a run asks for; of one that is asked for twice, the last time counts.
    pub(crate) fn strengths(&self, asked: Vec<(Arc<LoadedLora>, Asked)>) -> Strengths {
        Strengths { set: self.clone(), asked }
    }
}

impl Strengths {
    /// Sets them for a step, from 1, or for the encoding of the words; nobody else does until what is given back is dropped.
    pub(crate) fn set(&self, step: Option<usize>) -> Turn<'_> {
        let Inner { lent, loaded, turn, .. } = &*self.set.0;
        let all = || {
            let loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        let shared = turn.read().unwrap_or_else(PoisonError::into_inner);
        // One that is put in from now on counts when somebody sets it, which takes the turn alone.
        if all().is_empty() && lent.as_ref().is_none_or(|lent| lent.get().is_empty()) {
            return Turn::Shared(shared);
        }
        drop(shared);
        let alone = turn.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lent) = lent {
            lent.set(self.asked.iter().flat_map(|(lora, _)| lora.embeddings.clone()).collect());
        }
        for lora in all() {
            let asked = self.asked.iter().rfind(|(of, _)| Arc::ptr_eq(of, &lora)).map(|(_, asked)| asked);
            match asked.filter(|asked| step.is_none_or(|step| asked.steps.contain(step))) {
                Some(Asked { model, text, blocks, .. }) => lora.adapter.set(*model, *text, blocks),
                None => lora.adapter.set(0.0, 0.0, &Blocks::default()),
            }
        }
        Turn::Alone(alone)
    }

    /// What text encoders make of a prompt under them is another than under others.
    pub(crate) fn of_text(&self) -> String {
        let counts = self.asked.iter().filter(|(lora, asked)| asked.text != 0.0 || !lora.embeddings.is_empty());
        counts.map(|(lora, asked)| format!("{}={}/{:?};", lora.key, asked.text, asked.blocks)).collect()
    }
}

/// Reads a LoRA file with what is said in it and beside it, and its metadata.
pub(crate) fn read(path: &Path) -> Result<(LoraFile, Metadata)> {
    let file = open_file(path)?;
    let metadata = metadata(path)?;
    let read = match Decoded::<TensorFile>::is_needed(file.manifest()) {
        true => LoraFile::read(&Decoded::over(file)?)?,
        false => LoraFile::read(&file)?,
    };
    let read = match metadata.get("lora_adapter_metadata") {
        Some(config) => read.configured_by_metadata(config)?,
        None => read,
    };
    let beside = config_beside(path);
    // PEFT writes both into a folder of their own. Under another name a file may lie beside one that is not its own: what another program
    // wrote has no config of PEFT's, and what PEFT wrote has the ranks that its config says.
    let is_named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("adapter_model."));
    if !(is_named || read.is_pefts()) || !beside.is_file() {
        return Ok((read, metadata));
    }
    let text = crate::text_file::read(&beside, LONGEST_CONFIG);
    let read = match text {
        Ok(text) if is_named => read.configured(&beside, &text)?,
        Ok(text) => read.configured_if_it_fits(&beside, &text),
        Err(source) if is_named => return Err(Error::ReadConfig { path: beside, source }),
        // It may be another's.
        Err(_) => read,
    };
    Ok((read, metadata))
}

/// Where PEFT writes what it says of a file.
fn config_beside(path: &Path) -> PathBuf {
    path.with_file_name("adapter_config.json")
}

/// The longest `adapter_config.json` that is read, in bytes.
const LONGEST_CONFIG: u64 = 1 << 20;
