use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use core_tensor::{Form, Format, WeightSource};
use diffusion_engine::{
    Applied, Cancel, Encodings, ExtraNetwork, HiresSize, Job, Model, Pass, Snapshot, Txt2Img, Which, family::Placement,
};
use memory::{Bytes, Part, Plan};

use crate::{
    Ceiling, Config, Error, Families, Fault, LoraConfig, Note, Result, Run, Threads,
    brought::brought,
    lent::Lent,
    loras::{Asked, LoadedLora, LoraIndex, Strengths, Version, lora_hash, metadata, version},
    model_files::{TensorFile, open_file},
    open::Opened,
    plans::{self, Plans},
    process,
};

/// An opened model, ready for any number of runs, several at once. Clones share it.
///
/// Opening looks at headers alone. The model is loaded for the first job, as that job's size leaves memory for, and again where a
/// later job's does not; it computes in a pool of its own.
#[derive(Clone)]
pub struct Forge(Arc<Inner>);

struct Inner {
    opened: Arc<Opened>,
    /// The models that a job may ask for beside it.
    others: BTreeMap<Which, Arc<Opened>>,
    notes: Vec<Note>,
    threads: Threads,
    loaded: Mutex<BTreeMap<Which, Loaded>>,
    /// Prompts that were encoded, by the model and what its text encoders had in them; the last few.
    encodings: Mutex<Vec<(State, Arc<Encodings>)>>,
    loras: LoraIndex,
    /// Whether a LoRA may fit in part.
    partly: bool,
    /// What LoRA files are known by, of those that were asked for.
    hashes: Mutex<BTreeMap<(PathBuf, Version), String>>,
    /// What they take of memory.
    bytes: Mutex<BTreeMap<(PathBuf, Version), u64>>,
}

/// Whose text encoders, and what they had in them.
type State = (Which, String);

/// How many states of the text encoders have their prompts kept.
const STATES: usize = 8;

struct Loaded {
    placement: Placement,
    model: Arc<dyn Model>,
    /// Those of the last job; one that neither it nor a run has any more leaves the model.
    held: Vec<Arc<LoadedLora>>,
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
        let files = [(Which::Hires, &config.hires.checkpoint), (Which::Refiner, &config.refiner.checkpoint)];
        let other = |(which, file): (Which, &Option<PathBuf>)| {
            let config = config.of_checkpoint(file.as_deref()?);
            let opened = threads.compute(|| Opened::of(&config, families));
            Some(opened.map(|opened| (which, Arc::new(opened))))
        };
        let others = files.into_iter().filter_map(other).collect::<Result<BTreeMap<_, _>>>()?;
        let notes = [&opened].into_iter().chain(others.values()).flat_map(|opened| opened.notes()).collect();
        let mut loras = config.prompt.loras.as_deref().map(LoraIndex::of).transpose()?.unwrap_or_default();
        let names = LoraConfig::names(&config.loras)?;
        let files = config.loras.iter().zip(names).filter_map(|(lora, name)| Some((name, lora.file()?)));
        files.for_each(|(name, path)| loras.add(name, path.to_owned()));
        Ok(Self(Arc::new(Inner {
            opened,
            others,
            notes,
            threads,
            loras,
            partly: config.allow_partial_lora,
            loaded: Mutex::default(),
            encodings: Mutex::default(),
            hashes: Mutex::default(),
            bytes: Mutex::default(),
        })))
    }

    /// What a job would take, and how its models would be loaded: all of them at once, or the largest where they take turns.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it does not fit, or a size that the model can't draw.
    pub fn plan(&self, job: &Job) -> Result<Plan> {
        Ok(self.plans(job)?.told().clone())
    }

    /// The plans of jobs that follow each other, the largest first. Where the models of a job take turns, each has its own.
    ///
    /// # Errors
    /// As [`Forge::plan`], of that job which needs the most.
    pub fn plan_all<'j>(&self, jobs: impl IntoIterator<Item = &'j Job>) -> Result<Vec<Plan>> {
        let all = of_most(jobs.into_iter().map(|job| self.plans(job)))?;
        let mut plans: Vec<Plan> = all.iter().flat_map(Plans::all).cloned().collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.total()));
        Ok(plans)
    }

    /// How much memory a run may take, and who says so.
    pub fn ceiling(&self) -> &Ceiling {
        self.0.opened.ceiling()
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
        core_tensor::ready_again(self.0.opened.device());
        let applied = self.applied(&self.wanted(job.extra_networks())?, &cancel)?;
        let job = self.suited(job)?.applied(applied);
        let (lent, strengths, plans) = self.lent(&job, &cancel)?;
        let job = job.within(plans.room());
        let run = self.0.threads.compute(|| diffusion_engine::start_with(Arc::new(lent), job, cancel));
        let (opened, plan) = (self.0.opened.clone(), plans.told().clone());
        let run = Run::new(run.map_err(brought)?, opened, self.0.threads.clone(), strengths, plan);
        Ok(run.begun())
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
        core_tensor::ready_again(self.0.opened.device());
        let cancel = Cancel::default();
        let (lent, strengths, plans) = self.lent(snapshot.job(), &cancel)?;
        let snapshot = snapshot.within(plans.room());
        let resume = || diffusion_engine::Run::resume_with(Arc::new(lent), snapshot, cancel);
        let run = self.0.threads.compute(resume).map_err(brought)?;
        let (opened, plan) = (self.0.opened.clone(), plans.told().clone());
        Ok(Run::new(run, opened, self.0.threads.clone(), strengths, plan))
    }

    /// What the infotext calls the model.
    pub fn name(&self) -> &str {
        self.0.opened.name()
    }

    /// What computes, where that is not the CPU: its name and what it is, as `vulkan:0, NVIDIA H200`.
    pub fn device(&self) -> Option<String> {
        self.0.opened.own_memory().map(|name| core_tensor::about(&name).unwrap_or(name))
    }

    /// The file by whose [hash](crate::model_hash) the model is known: the network's that is sampled with. `None` where that lies in several.
    pub fn file(&self) -> Option<&Path> {
        self.0.opened.file()
    }

    /// The autoencoder's file or folder, where the config names one beside the model's own.
    pub fn vae(&self) -> Option<&Path> {
        self.0.opened.vae()
    }

    /// The file of the model that takes over, where the config names one.
    pub fn refiner(&self) -> Option<&Path> {
        self.0.others.get(&Which::Refiner)?.file()
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
        let (plans, wanted) = (self.plans(job)?, self.wanted(job.extra_networks())?);
        self.0.threads.compute(|| self.0.bring(Which::First, &plans, &wanted, &Cancel::default()))
    }

    /// Lets the loaded models go. Runs that there are go on with them, and the next job loads them again.
    pub fn unload(&self) {
        self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A job with sides that its models take where they follow from others.
    fn suited(&self, job: Job) -> Result<Job> {
        // A model that is not there is told where it is asked for.
        let multiple = |which| self.0.opened(which).map_or(HiresSize::MULTIPLE, Opened::size_multiple);
        Ok(job.suited(multiple)?)
    }

    /// How the models of a job are loaded.
    fn plans(&self, job: &Job) -> Result<Plans> {
        let wanted = self.wanted(job.extra_networks())?;
        // Without what names LoRAs, prompts are those that are encoded.
        let applied = |wanted: &Wanted| Applied { network: wanted.network.clone(), hash: None };
        let job = &self.suited(job.clone())?.applied(wanted.iter().map(applied).collect());
        let loras = self.0.bytes_of(&wanted);
        let upscaler = Bytes(job.upscaler_bytes());
        let upscaler = (upscaler.0 > 0).then(|| Part::fixed(plans::UPSCALER, upscaler));
        let shared: Vec<_> = process::parts(&self.0.threads).into_iter().chain(upscaler).collect();
        // Whichever model is there meanwhile.
        let enlarging = Bytes(job.upscaling_bytes());
        let plans = |job: &Job| {
            let plan = |which: Which| {
                let (opened, job) = (self.0.opened(which)?, job.of_model(which));
                opened.fits(&job)?;
                Ok((which, opened.plan(&job, loras, enlarging, &shared)?))
            };
            // Of models that take turns the largest says what would do.
            Ok::<BTreeMap<_, _>, Error>(of_most(job.models().into_iter().map(plan))?.into_iter().collect())
        };
        let mut all = plans(job)?;
        // A job has one room, and models that could do with more tiles have them too.
        let room = all.values().filter_map(|(_, room)| *room).min();
        if all.values().any(|(_, own)| *own != room) {
            all = plans(&job.clone().within(room))?;
        }
        let all = all.into_iter().map(|(which, (plan, _))| (which, plan)).collect();
        Ok(Plans::of(all, room, self.0.opened.ceiling().bytes))
    }

    /// What brings the models of a job, how much LoRAs count in each of its passes, and what it holds of memory.
    fn lent(&self, job: &Job, cancel: &Cancel) -> Result<(Lent, Vec<Vec<Strengths>>, Plans)> {
        let (plans, wanted) = (self.plans(job)?, self.wanted(job.extra_networks())?);
        let mut encodings = BTreeMap::new();
        let mut of_pass = |(index, pass): (usize, &Pass)| {
            let wanted = self.wanted(pass.extra_networks())?;
            let models = [Some(pass.model), pass.refined_from.map(|_| Which::Refiner)];
            let strengths = models.into_iter().flatten().map(|which| {
                let loras = self.0.loras_of(which, &wanted)?;
                let asked = wanted.iter().map(|wanted| wanted.asked.clone());
                let strengths = self.0.opened(which)?.loras().strengths(loras.into_iter().zip(asked).collect());
                encodings.insert((which, index), self.encodings(which, &strengths));
                Ok(strengths)
            });
            strengths.collect::<Result<Vec<_>>>()
        };
        let strengths = job.passes().iter().enumerate().map(&mut of_pass).collect::<Result<Vec<_>>>()?;
        let (inner, own, cancel) = (self.0.clone(), plans.clone(), cancel.clone());
        let bring = move |which| inner.bring(which, &own, &wanted, &cancel);
        Ok((Lent::of(bring, encodings), strengths, plans))
    }

    /// The LoRAs among what prompts name.
    fn wanted(&self, networks: Vec<ExtraNetwork>) -> Result<Vec<Wanted>> {
        let wanted = |network: ExtraNetwork| {
            let asked = Asked::of(&network)?;
            let path = self.0.loras.find(&asked.name)?.to_owned();
            Ok(Wanted { network, asked, path })
        };
        networks.into_iter().filter(ExtraNetwork::is_lora).map(wanted).collect()
    }

    /// What the infotext says of them.
    fn applied(&self, wanted: &[Wanted], cancel: &Cancel) -> Result<Vec<Applied>> {
        let mut hashes = self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut applied = |Wanted { network, path, .. }: &Wanted| {
            let state = (path.clone(), version(path));
            let hash = match hashes.get(&state) {
                Some(known) => known.clone(),
                None => {
                    let hash = metadata(path).and_then(|metadata| lora_hash(path, &metadata, cancel));
                    // What is no file is told as it is when it is loaded.
                    let hash = hash.map_err(|error| match error.fault() {
                        Fault::Stopped => error,
                        _ => Error::Load { path: path.clone(), source: Box::new(error) },
                    })?;
                    hashes.entry(state).or_insert(hash).clone()
                }
            };
            Ok::<_, Error>(Applied { network: network.clone(), hash: Some(hash) })
        };
        wanted.iter().map(&mut applied).collect()
    }

    /// Prompts that were encoded under these strengths.
    fn encodings(&self, which: Which, strengths: &Strengths) -> Arc<Encodings> {
        let state = (which, strengths.of_text());
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

impl Inner {
    /// One of the models, by its headers.
    fn opened(&self, which: Which) -> Result<&Opened> {
        let key = match which {
            Which::First => return Ok(&self.opened),
            Which::Hires => "hires.checkpoint",
            Which::Refiner => "refiner.checkpoint",
        };
        let other = self.others.get(&which).map(|opened| &**opened);
        other.ok_or_else(|| Error::Value {
            key: key.into(),
            expected: format!("a file, as the job asks for {which}"),
            found: "nothing".into(),
        })
    }

    /// One of the models as planned, with LoRAs in it: that which is loaded, or one that is loaded now, in the place of the others where
    /// there is no room beside them. Of those that the job has no use for nothing stays, as its plan does not count them.
    ///
    /// It runs in the pool, where nobody else does who could ask for what is locked here.
    fn bring(&self, which: Which, plans: &Plans, wanted: &[Wanted], cancel: &Cancel) -> Result<Arc<dyn Model>> {
        let (opened, plan) = (self.opened(which)?, plans.of_model(which));
        opened.limit_kept(plans.told());
        let placement = opened.placement(plan);
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // A LoRA that does not fit is told before a model is loaded for it.
        let loras = self.loras_of(which, wanted)?;
        all.retain(|other, _| plans.count(*other));
        if let Some(loaded) = all.get_mut(&which).filter(|loaded| loaded.placement.serves(&placement)) {
            loaded.held = loras;
            return Ok(loaded.model.clone());
        }
        // What is loaded goes first: there is no room for it twice.
        all.retain(|other, _| *other != which && plans.are_together());
        let model = opened.load(plan, cancel)?;
        // Weights that found no room on the device are told of here, and not kept for the next job.
        core_tensor::settled(opened.device())?;
        all.insert(which, Loaded { placement, model: model.clone(), held: loras });
        Ok(model)
    }

    /// LoRAs in one of the models; of one that is asked for twice, the last time counts.
    fn loras_of(&self, which: Which, wanted: &[Wanted]) -> Result<Vec<Arc<LoadedLora>>> {
        let opened = self.opened(which)?;
        let dora = |path: &Path| wanted.iter().rfind(|wanted| wanted.path == path).map(|last| last.asked.dora);
        let lora = |path: &Path| opened.lora(path, dora(path).unwrap_or_default(), self.partly);
        wanted.iter().map(|wanted| self.threads.compute(|| lora(&wanted.path))).collect()
    }

    /// Bytes of their tensors as they are multiplied with; a file is looked at once, until it is another.
    fn bytes_of(&self, wanted: &[Wanted]) -> u64 {
        let mut known = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of = |path: PathBuf| {
            let state = (path.clone(), version(&path));
            // A file that can't be read is told of when it is put in.
            *known.entry(state).or_insert_with(|| open_file(&path).map_or(0, |file| multiplied(&file)))
        };
        paths_of(wanted).into_iter().map(&mut of).fold(0, u64::saturating_add)
    }
}

/// Each file once.
fn paths_of(wanted: &[Wanted]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = wanted.iter().map(|wanted| wanted.path.clone()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Bytes of a LoRA's tensors as they are multiplied with: in the floats of the file, and in f32 where that has others.
fn multiplied(file: &TensorFile) -> u64 {
    let size = |form: Form| {
        let is_float = [Format::F32, Format::F16, Format::BF16].contains(&form.format);
        if is_float { form.format } else { Format::F32 }.size_of(form.shape)
    };
    file.manifest().iter().map(|(_, form)| size(form).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

impl fmt::Debug for Forge {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Forge").field("name", &self.name()).field("threads", &self.0.threads).finish_non_exhaustive()
    }
}

/// All of some plans, or what is wrong with that which needs the most.
fn of_most<T>(plans: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (plans, mut errors): (Vec<_>, Vec<_>) = plans.partition(Result::is_ok);
    errors.sort_by_key(|error| std::cmp::Reverse(error.as_ref().err().map(needed)));
    errors.into_iter().take(1).chain(plans).collect()
}

/// What a model needs of memory that has too little; the most for what is wrong otherwise, which comes first.
fn needed(error: &Error) -> u64 {
    match error {
        Error::Memory(memory::Error::TooLittle { needed, .. }) => needed.0,
        _ => u64::MAX,
    }
}
