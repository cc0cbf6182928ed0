use std::{fmt, ops::Deref, sync::Arc};

use crate::{
    Error, Options, Param, Process, Schedule, Setting, SigmaSpace, Sigmas, Stepper,
    schedule::AUTOMATIC,
    schedules::{normal, simple},
};

/// A way of taking steps: an entry of the [`Registry`](crate::Registry), cheap to clone and equal to another by its id.
///
/// What is not said of a new one is what most have in common: one model call a step, no noise, no options, every process, every schedule.
///
/// ```
/// use samplers::{Calls, Sampler, Setting, euler};
///
/// let gain = Setting::number("gain", "Gain", [1.0, 0.0, 2.0], "What the slope is multiplied by.");
/// let mine = Sampler::new("mine", "Mine", |start| euler().start(start))
///     .about("Euler's method by another name.")
///     .calls(Calls::Each(1))
///     .params([gain.param()]);
/// assert_eq!(mine.id, "mine");
/// ```
#[derive(Clone)]
pub struct Sampler(Arc<SamplerEntry>);

/// Everything that the command line, the docs, the infotext and the tests know about a sampler.
#[derive(Clone)]
#[non_exhaustive]
pub struct SamplerEntry {
    /// The name in configs and flags.
    pub id: String,
    /// The name that people and infotexts know it by.
    pub label: String,
    /// Other spellings that are accepted.
    pub aliases: Vec<String>,
    /// What it is in a sentence, and how it differs from what other engines call by one of its names.
    pub about: String,
    /// How often it calls the model.
    pub calls: Calls,
    /// Whether it draws noise after the start, if nothing is set.
    pub stochastic: bool,
    /// Whether what it draws is what a Brownian path gains.
    pub has_path: bool,
    /// Whether it asks what the model would do without the prompt, so that every call is two even where `cfg` is 1.
    pub needs_negative: bool,
    /// What it can be told.
    pub params: Vec<Param>,
    /// The processes that it is made for.
    pub processes: Processes,
    /// What the schedule `automatic` stands for with it on Stable Diffusion's noise levels: A1111's choice (1.10,
    /// modules/sd_samplers_kdiffusion.py `scheduler`).
    pub automatic: Schedule,
    levels: Option<Arc<Levels>>,
    noise_scale: Option<Arc<NoiseScale>>,
    over: fn(SigmaSpace) -> SigmaSpace,
    steps_seed: Option<fn(u64) -> u64>,
    start: Arc<Begin>,
}

impl std::fmt::Debug for SamplerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("SamplerEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

type Levels = dyn Fn(&Start, &[f32]) -> Result<Vec<f32>, Error> + Send + Sync;
type NoiseScale = dyn Fn(&[f32], &[f32]) -> f32 + Send + Sync;
type Begin = dyn Fn(&Start) -> Result<Box<dyn Stepper>, Error> + Send + Sync;

/// How often a sampler calls the model in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// So often in each step, but once in the last.
    Each(u8),
    /// So often in each step, but never further ahead than the run goes: once in the last, twice in the last but one.
    Ahead(u8),
    /// Once in each step, and twice in the first of several.
    TwiceFirst,
    /// So often in each step, of which there may be others than were asked for.
    EachOfOwn(u8),
    /// As often in the whole run as steps were asked for.
    Steps,
    /// As often as it finds necessary.
    Varying,
}

impl Calls {
    /// How often in a run of so many steps, if that can be told.
    pub fn of(self, steps: usize) -> Option<usize> {
        match self {
            Self::Each(n) => Some((steps - 1) * usize::from(n) + 1),
            Self::Ahead(n) => Some((1..=steps).map(|left| left.min(n.into())).sum()),
            Self::TwiceFirst => Some(steps + usize::from(steps > 1)),
            Self::Steps => Some(steps),
            Self::EachOfOwn(_) | Self::Varying => None,
        }
    }

    /// How often in a step in the midst of a run, if that can be told.
    pub fn per_step(self) -> Option<u8> {
        match self {
            Self::Each(n) | Self::EachOfOwn(n) | Self::Ahead(n) => Some(n),
            Self::TwiceFirst | Self::Steps => Some(1),
            Self::Varying => None,
        }
    }
}

/// The processes that a sampler is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Processes {
    /// Every one.
    All,
    /// [`Process::Diffusion`] alone.
    Diffusion {
        /// The id of the nearest sampler for a flow.
        instead: String,
    },
}

impl Processes {
    /// The name in lists.
    pub fn id(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Diffusion { .. } => "diffusion",
        }
    }
}

impl Sampler {
    /// A sampler by its id and its label, and what begins a run of it.
    ///
    /// `start` may keep state and may fail, with [`Error::Sampler`] for a cause of its own: another process may stand behind it.
    pub fn new(
        id: impl Into<String>,
        label: impl Into<String>,
        start: impl Fn(&Start) -> Result<Box<dyn Stepper>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(SamplerEntry {
            id: id.into(),
            label: label.into(),
            aliases: Vec::new(),
            about: String::new(),
            calls: Calls::Each(1),
            stochastic: false,
            has_path: false,
            needs_negative: false,
            params: Vec::new(),
            processes: Processes::All,
            automatic: normal::schedule(),
            levels: None,
            noise_scale: None,
            over: |space| space,
            steps_seed: None,
            start: Arc::new(start),
        }))
    }

    /// Other spellings that are accepted.
    pub fn aliases(self, aliases: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|entry| entry.aliases = aliases.into_iter().map(Into::into).collect())
    }

    /// What it is in a sentence.
    pub fn about(self, about: impl Into<String>) -> Self {
        self.with(|entry| entry.about = about.into())
    }

    /// How often it calls the model.
    pub fn calls(self, calls: Calls) -> Self {
        self.with(|entry| entry.calls = calls)
    }

    /// Draws noise after the start, if nothing is set.
    pub fn stochastic(self) -> Self {
        self.with(|entry| entry.stochastic = true)
    }

    /// Draws noise from a Brownian path, by [`Noise::between`](crate::Noise::between), which takes memory of its own.
    pub fn along_a_path(self) -> Self {
        self.with(|entry| entry.has_path = true)
    }

    /// Asks what the model would do without the prompt.
    pub fn needs_negative(self) -> Self {
        self.with(|entry| entry.needs_negative = true)
    }

    /// What it can be told; a [`Setting`] reads it when a run begins.
    pub fn params(self, params: impl IntoIterator<Item = Param>) -> Self {
        self.with(|entry| entry.params = params.into_iter().collect())
    }

    /// Is made for [`Process::Diffusion`] alone; `instead` is the id of the nearest sampler for a flow.
    pub fn diffusion_alone(self, instead: impl Into<String>) -> Self {
        self.with(|entry| entry.processes = Processes::Diffusion { instead: instead.into() })
    }

    /// What the schedule `automatic` stands for with it where the model is no flow.
    pub fn automatic(self, schedule: Schedule) -> Self {
        self.with(|entry| entry.automatic = schedule)
    }

    /// Its own noise levels, where it can't take a schedule's: from the schedule's, which are at least two and descend.
    ///
    /// They may rise; [`Sampler::begin`] refuses fewer than two, and any that is negative or not finite.
    pub fn levels(self, levels: impl Fn(&Start, &[f32]) -> Result<Vec<f32>, Error> + Send + Sync + 'static) -> Self {
        self.with(|entry| entry.levels = Some(Arc::new(levels)))
    }

    /// What noise of unit variance is multiplied by to start a run: by the schedule's levels and those that are then taken, of which it is
    /// the first for other samplers.
    pub fn noise_scale(self, scale: impl Fn(&[f32], &[f32]) -> f32 + Send + Sync + 'static) -> Self {
        self.with(|entry| entry.noise_scale = Some(Arc::new(scale)))
    }

    /// Has schedules space other levels for it than the model's own.
    pub(crate) fn over(self, space: fn(SigmaSpace) -> SigmaSpace) -> Self {
        self.with(|entry| entry.over = space)
    }

    /// Has the noise of its steps begin anew, from another seed than the picture's.
    pub(crate) fn steps_seeded(self, seed: fn(u64) -> u64) -> Self {
        self.with(|entry| entry.steps_seed = Some(seed))
    }

    /// The same entry with something else that begins a run.
    pub(crate) fn begun_by(
        self,
        start: impl Fn(&Start) -> Result<Box<dyn Stepper>, Error> + Send + Sync + 'static,
    ) -> Self {
        self.with(|entry| entry.start = Arc::new(start))
    }

    fn with(mut self, change: impl FnOnce(&mut SamplerEntry)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Its id, its label and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.id, &self.label].into_iter().chain(&self.aliases).map(String::as_str)
    }

    /// Whether it takes levels of its own in place of a schedule's.
    pub fn has_own_levels(&self) -> bool {
        self.levels.is_some()
    }

    /// What noise of unit variance is multiplied by to start a run: by the schedule's levels and those of [`Sampler::begin`].
    pub fn starts_with(&self, given: &[f32], taken: &[f32]) -> f32 {
        self.noise_scale.as_ref().map_or(taken[0], |scale| scale(given, taken))
    }

    /// The levels that schedules space for it on a model's.
    pub fn spaces(&self, space: SigmaSpace) -> SigmaSpace {
        (self.over)(space)
    }

    /// The seed of the noise that its steps draw in a picture of a seed, where that begins anew whatever is asked for.
    pub fn seed_of_steps(&self, seed: u64) -> Option<u64> {
        self.steps_seed.map(|of| of(seed))
    }

    /// Begins a run, over whatever levels its steps are then given; [`Sampler::begin`] chooses and checks them.
    ///
    /// # Errors
    /// The sampler's own.
    pub fn start(&self, start: &Start) -> Result<Box<dyn Stepper>, Error> {
        (self.start)(start)
    }

    /// This sampler's run over the levels of a schedule, and what begins it.
    ///
    /// # Errors
    /// [`Error::UnsuitedSampler`] for a model it is not made for, [`Error::Levels`] for levels above 1 on a flow or levels of its own that
    /// are none, and the sampler's own.
    pub fn begin(&self, start: &Start, levels: Sigmas) -> Result<(Sigmas, Box<dyn Stepper>), Error> {
        if let (Processes::Diffusion { instead }, Process::Flow) = (&self.processes, start.space.process()) {
            let (sampler, instead) = (self.id.clone(), instead.clone());
            return Err(Error::UnsuitedSampler { sampler, space: start.space.id(), instead });
        }
        let levels = match &self.levels {
            Some(own) => Sigmas::visited(own(start, &levels)?)?,
            None => levels,
        };
        let highest = levels.iter().copied().fold(0.0, f32::max);
        if start.space.process() == Process::Flow && highest > 1.0 {
            let found = highest.to_string();
            return Err(Error::Levels { expected: "levels of at most 1, which is noise alone on a flow", found });
        }
        Ok((levels, self.start(start)?))
    }
}

impl Deref for Sampler {
    type Target = SamplerEntry;

    fn deref(&self) -> &SamplerEntry {
        &self.0
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Sampler({:?})", self.id)
    }
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// What a sampler knows when a run begins.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The model's noise levels.
    pub space: SigmaSpace,
    /// The steps that were asked for.
    pub steps: usize,
    /// What was set.
    pub options: &'a Options,
}

impl Start<'_> {
    /// What an option is set to, or its default.
    pub fn get<T>(&self, setting: &Setting<T>) -> T {
        self.options.get(setting)
    }
}

impl Schedule {
    /// This schedule, or what `automatic` stands for with that sampler and model.
    pub fn resolved(&self, sampler: &Sampler, space: &SigmaSpace) -> Self {
        let [on_flows, on_others] = self.meanings(sampler);
        match space {
            SigmaSpace::Flow { .. } => on_flows,
            _ => on_others,
        }
    }

    /// What it stands for with that sampler: on a [`SigmaSpace::Flow`], and on others.
    pub fn meanings(&self, sampler: &Sampler) -> [Self; 2] {
        match self.id == AUTOMATIC {
            true => [simple::schedule(), sampler.automatic.clone()],
            false => [self.clone(), self.clone()],
        }
    }
}
