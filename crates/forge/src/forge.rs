use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use diffusion_engine::{Cancel, Encodings, Job, Model, Snapshot, Txt2Img, family::Placement};
use memory::Plan;

use crate::{Config, Families, Note, Result, Run, Threads, open::Opened};

/// An opened model, ready for any number of runs, several at once. Clones share it.
///
/// Opening looks at headers alone. The model is loaded for the first job, as that job's size leaves memory for, and again where a
/// later job's does not; it computes in a pool of its own.
#[derive(Clone)]
pub struct Forge(Arc<Inner>);

struct Inner {
    opened: Opened,
    notes: Vec<Note>,
    threads: Threads,
    loaded: Mutex<Option<Loaded>>,
    encodings: Arc<Encodings>,
}

#[derive(Clone)]
struct Loaded {
    placement: Placement,
    model: Arc<dyn Model>,
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
        let opened = threads.compute(|| Opened::of(config, families))?;
        let notes = opened.notes();
        let (loaded, encodings) = (Mutex::default(), Arc::default());
        Ok(Self(Arc::new(Inner { opened, notes, threads, loaded, encodings })))
    }

    /// What a job would take, and how its model would be loaded.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it does not fit.
    pub fn plan(&self, job: &Job) -> Result<Plan> {
        self.0.opened.plan(job)
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
        let Inner { threads, encodings, .. } = &*self.0;
        let model = self.model(&job)?;
        let run = threads.compute(|| diffusion_engine::start(model, job, encodings.clone(), cancel))?;
        Ok(Run::new(run, threads.clone()).with_vae(self.vae()))
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
        let Inner { threads, encodings, .. } = &*self.0;
        let model = self.model(snapshot.job())?;
        let run = diffusion_engine::Run::resume(model, snapshot, encodings.clone(), Cancel::default());
        Ok(Run::new(run, threads.clone()).with_vae(self.vae()))
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

    /// The model as a job needs it: the one that is loaded, or loaded now in another way.
    ///
    /// # Errors
    /// Too little memory, or a model file that is rejected.
    pub fn model(&self, job: &Job) -> Result<Arc<dyn Model>> {
        let Inner { opened, threads, loaded, .. } = &*self.0;
        opened.fits(job)?;
        let plan = opened.plan(job)?;
        let placement = opened.placement(&plan);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Loaded { model, .. }) = loaded.as_ref().filter(|loaded| loaded.placement == placement) {
            return Ok(model.clone());
        }
        // What is loaded goes first: there is no room for it twice.
        *loaded = None;
        let model = threads.compute(|| opened.load(&plan))?;
        *loaded = Some(Loaded { placement, model: model.clone() });
        Ok(model)
    }
}

impl fmt::Debug for Forge {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Forge").field("name", &self.name()).field("threads", &self.0.threads).finish_non_exhaustive()
    }
}
