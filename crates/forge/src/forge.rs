use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use diffusion_engine::{Applied, Cancel, Encodings, ExtraNetwork, Job, Model, Snapshot, Txt2Img, family::Placement};
use memory::Plan;

use crate::{
    Config, Error, Families, Note, Result, Run, Threads,
    loras::{Asked, LoadedLora, LoraIndex, Strengths, Version, lora_hash, metadata, version},
    open::Opened,
};

/// An opened model, ready for any number of runs, several at once. Clones share it.
///
/// Opening looks at headers alone. The model is loaded for the first job, as that job's size leaves memory for, and again where a
/// later job's does not; it computes in a pool of its own.
#[derive(Clone)]
pub struct Forge(Arc<Inner>);

struct Inner {
    opened: Arc<Opened>,
    notes: Vec<Note>,
    threads: Threads,
    loaded: Mutex<Option<Loaded>>,
    /// Prompts that were encoded, by what the text encoders had in them; the last few.
    encodings: Mutex<Vec<(String, Arc<Encodings>)>>,
    loras: LoraIndex,
    /// Whether a LoRA may fit in part.
    partly: bool,
    /// What LoRA files are known by, of those that were asked for.
    hashes: Mutex<BTreeMap<(PathBuf, Version), String>>,
}

/// How many states of the text encoders have their prompts kept.
const STATES: usize = 8;

#[derive(Clone)]
struct Loaded {
    placement: Placement,
    model: Arc<dyn Model>,
    /// Those of the last job; one that neither it nor a run has any more leaves the model.
    loras: Vec<Arc<LoadedLora>>,
}

/// A LoRA that a job asks for, and its file.
struct Wanted {
    network: ExtraNetwork,
    asked: Asked,
    path: PathBuf,
}

impl Forge {
    /// Opens the model of a config file.
    ///
    /// # Errors
    /// A config that can't be read, or a model file that is rejected.
    pub fn open(config: impl AsRef<Path>) -> Result<Self> {
        Self::load(&Config::read(config.as_ref())?)
    }

    /// Opens the model of a config, of which it reads `[model]` and `[device]`.
    ///
    /// # Errors
    /// A model file that is rejected, a device that can't be used.
    pub fn load(config: &Config) -> Result<Self> {
        Self::load_with(&Families::builtin(), config)
    }

    /// The same, of families that a program may have added its own to.
    ///
    /// # Errors
    /// As [`Forge::load`].
    pub fn load_with(families: &Families, config: &Config) -> Result<Self> {
        Self::opened(families, config, Threads::start(config.device.threads))
    }

    /// Opens the model of a config, computing in a pool that there is already.
    ///
    /// # Errors
    /// As [`Forge::load`].
    pub fn load_on(config: &Config, threads: Threads) -> Result<Self> {
        Self::opened(&Families::builtin(), config, threads)
    }

    /// The families whose models [`Forge::load`] opens.
    pub fn families() -> Families {
        Families::builtin()
    }

    fn opened(families: &Families, config: &Config, threads: Threads) -> Result<Self> {
        let opened = Arc::new(threads.compute(|| Opened::of(config, families))?);
        let notes = opened.notes();
        let mut loras = config.prompt.loras.as_deref().map(LoraIndex::of).transpose()?.unwrap_or_default();
        let files = config.loras.iter().filter_map(|lora| Some((lora.name(), lora.file()?)));
        files.for_each(|(name, path)| loras.add(name, path.to_owned()));
        Ok(Self(Arc::new(Inner {
            opened,
            notes,
            threads,
            loras,
            partly: config.allow_partial_lora,
            loaded: Mutex::default(),
            encodings: Mutex::default(),
            hashes: Mutex::default(),
        })))
    }

    /// What a job would take, and how its model would be loaded.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it does not fit, or a size that the model can't draw.
    pub fn plan(&self, job: &Job) -> Result<Plan> {
        self.0.opened.fits(job)?;
        self.0.opened.plan(job, bytes_of(&self.wanted(job)?))
    }

    /// Begins a job.
    ///
    /// # Errors
    /// Too little memory, a model file that is rejected, or a job that the model can't do.
    pub fn start(&self, job: Job) -> Result<Run> {
        self.start_until(job, Cancel::default())
    }

    /// The same, until somebody asks to stop.
    ///
    /// # Errors
    /// As [`Forge::start`].
    pub fn start_until(&self, job: Job, cancel: Cancel) -> Result<Run> {
        let Inner { opened, threads, .. } = &*self.0;
        let wanted = self.wanted(&job)?;
        let Loaded { model, loras, .. } = self.loaded(&job, &wanted)?;
        let job = job.applied(self.applied(&wanted)?);
        let strengths = self.strengths(loras, wanted);
        let encodings = self.encodings(&strengths);
        let run = threads.compute(|| diffusion_engine::start(model, job, encodings, cancel))?;
        Ok(Run::new(run, opened.clone(), threads.clone(), strengths))
    }

    /// Begins a job of one pass from noise.
    ///
    /// # Errors
    /// As [`Forge::start`], and a number of the request that is out of its range.
    pub fn txt2img(&self, request: Txt2Img) -> Result<Run> {
        self.start(Job::of(request)?)
    }

    /// Goes on with a run from where a snapshot was taken of it, also with another `Forge` of the same config.
    ///
    /// # Errors
    /// As [`Forge::start`].
    pub fn resume(&self, snapshot: Snapshot) -> Result<Run> {
        let Inner { opened, threads, .. } = &*self.0;
        let wanted = self.wanted(snapshot.job())?;
        let Loaded { model, loras, .. } = self.loaded(snapshot.job(), &wanted)?;
        let strengths = self.strengths(loras, wanted);
        let encodings = self.encodings(&strengths);
        let run = diffusion_engine::Run::resume(model, snapshot, encodings, Cancel::default());
        Ok(Run::new(run, opened.clone(), threads.clone(), strengths))
    }

    /// What the infotext calls the model.
    pub fn name(&self) -> &str {
        self.0.opened.name()
    }

    /// The file by whose [hash](crate::model_hash) the model is known: the network's that is sampled with. `None` where that lies in several.
    pub fn file(&self) -> Option<&Path> {
        self.0.opened.file()
    }

    /// The autoencoder's file or folder, where the config names one beside the model's own.
    pub fn vae(&self) -> Option<&Path> {
        self.0.opened.vae()
    }

    /// What is odd about the model's files, and no reason to refuse them: tensors that nothing reads or that hold nothing.
    pub fn notes(&self) -> &[Note] {
        &self.0.notes
    }

    /// The model as a job needs it: the one that is loaded, or loaded now in another way. The job's LoRAs are in it, and count in a
    /// [`Run`] alone.
    ///
    /// # Errors
    /// Too little memory, or a model file that is rejected.
    pub fn model(&self, job: &Job) -> Result<Arc<dyn Model>> {
        Ok(self.loaded(job, &self.wanted(job)?)?.model)
    }

    /// Lets the loaded model go. Runs that there are go on with it, and the next job loads it again.
    pub fn unload(&self) {
        *self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The model as a job needs it, and each of its LoRAs.
    fn loaded(&self, job: &Job, wanted: &[Wanted]) -> Result<Loaded> {
        let Inner { opened, threads, loaded, partly, .. } = &*self.0;
        opened.fits(job)?;
        let plan = opened.plan(job, bytes_of(wanted))?;
        let placement = opened.placement(&plan);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // A LoRA that does not fit is told before a model is loaded for it.
        // Of one that is asked for twice, the last time counts.
        let dora = |path: &Path| wanted.iter().rfind(|wanted| wanted.path == path).map(|last| last.asked.dora);
        let lora = |path: &Path| opened.lora(path, dora(path).unwrap_or_default(), *partly);
        let loras = wanted.iter().map(|wanted| threads.compute(|| lora(&wanted.path)));
        let loras = loras.collect::<Result<Vec<_>>>()?;
        if let Some(loaded) = loaded.as_mut().filter(|loaded| loaded.placement == placement) {
            loaded.loras = loras;
            return Ok(loaded.clone());
        }
        // What is loaded goes first: there is no room for it twice.
        *loaded = None;
        let model = threads.compute(|| opened.load(&plan))?;
        Ok(loaded.insert(Loaded { placement, model, loras }).clone())
    }

    /// How much each LoRA counts in a run.
    fn strengths(&self, loras: Vec<Arc<LoadedLora>>, wanted: Vec<Wanted>) -> Strengths {
        let asked = wanted.into_iter().map(|wanted| wanted.asked);
        self.0.opened.loras().strengths(loras.into_iter().zip(asked).collect())
    }

    /// The LoRAs that a job's prompts name.
    fn wanted(&self, job: &Job) -> Result<Vec<Wanted>> {
        let wanted = |network: ExtraNetwork| {
            let asked = Asked::of(&network)?;
            let path = self.0.loras.find(&asked.name)?.to_owned();
            Ok(Wanted { network, asked, path })
        };
        job.extra_networks().into_iter().filter(ExtraNetwork::is_lora).map(wanted).collect()
    }

    /// What the infotext says of them.
    fn applied(&self, wanted: &[Wanted]) -> Result<Vec<Applied>> {
        let mut hashes = self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut applied = |Wanted { network, path, .. }: &Wanted| {
            let state = (path.clone(), version(path));
            let hash = match hashes.get(&state) {
                Some(known) => known.clone(),
                None => hashes.entry(state).or_insert(lora_hash(path, &metadata(path)?)?).clone(),
            };
            Ok::<_, Error>(Applied { network: network.clone(), hash: Some(hash) })
        };
        wanted.iter().map(&mut applied).collect()
    }

    /// Prompts that were encoded under these strengths.
    fn encodings(&self, strengths: &Strengths) -> Arc<Encodings> {
        let state = strengths.of_text();
        let mut all = self.0.encodings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(of, _)| *of == state) {
            return known.clone();
        }
        let new = Arc::<Encodings>::default();
        all.insert(0, (state, new.clone()));
        all.truncate(STATES);
        new
    }
}

/// Each file once.
fn paths_of(wanted: &[Wanted]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = wanted.iter().map(|wanted| wanted.path.clone()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Bytes of their files.
fn bytes_of(wanted: &[Wanted]) -> u64 {
    let length = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    paths_of(wanted).iter().map(length).fold(0, u64::saturating_add)
}

impl fmt::Debug for Forge {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Forge").field("name", &self.name()).field("threads", &self.0.threads).finish_non_exhaustive()
    }
}
