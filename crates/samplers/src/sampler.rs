use core_tensor::Latent;

use crate::{Error, Options, Param, Schedule, SigmaSpace, Sigmas, schedules};

/// Everything that the command line, the docs, the infotext and the tests know about a way of taking steps.
#[derive(Debug)]
pub struct Sampler {
    /// The name in configs and flags.
    pub id: &'static str,
    /// The name that people and infotexts know it by.
    pub label: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// What it is in a sentence, and how it differs from what other engines call by one of its names.
    pub about: &'static str,
    /// How often it calls the model.
    pub calls: Calls,
    /// Whether it draws noise after the start, if nothing is set.
    pub stochastic: bool,
    /// Whether it asks what the model would do without the prompt, so that every call is two even where `cfg` is 1.
    pub needs_negative: bool,
    /// What it can be told.
    pub params: &'static [&'static Param],
    /// The processes that it is made for.
    pub processes: Processes,
    /// Its own noise levels, where it can't take a schedule's: from the schedule's.
    pub levels: Option<OwnLevels>,
    /// What the schedule `automatic` stands for with it on Stable Diffusion's noise levels: A1111's choice (1.10,
    /// modules/sd_samplers_kdiffusion.py `scheduler`).
    pub automatic: &'static Schedule,
    /// Begins a run.
    pub start: fn(&Start) -> Box<dyn Stepper>,
}

/// A run's noise levels, from those of a schedule.
pub type OwnLevels = fn(&Start, &[f32]) -> Vec<f32>;

/// How often a sampler calls the model in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// So often in each step, but once in the last.
    Each(u8),
    /// So often in each step, but never further ahead than the run goes: once in the last, twice in the last but one.
    Ahead(u8),
    /// Once in each step, and twice in the first of several.
    TwiceFirst,
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
            Self::Varying => None,
        }
    }

    /// How often in a step in the midst of a run, if that can be told.
    pub fn per_step(self) -> Option<u8> {
        match self {
            Self::Each(n) | Self::Ahead(n) => Some(n),
            Self::TwiceFirst | Self::Steps => Some(1),
            Self::Varying => None,
        }
    }
}

/// The processes that a sampler is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// Every one.
    All,
    /// [`Process::Diffusion`] alone.
    Diffusion {
        /// The id of the nearest sampler for a flow.
        instead: &'static str,
    },
}

impl Processes {
    /// The name in lists.
    pub fn id(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Diffusion { .. } => "diffusion",
        }
    }
}

impl Sampler {
    /// What most samplers have in common: one call a step, no noise, no options, every process, every schedule.
    ///
    /// It takes no steps; everything but the name and `start` may be left to it.
    pub const PLAIN: Self = Self {
        id: "",
        label: "",
        aliases: &[],
        about: "",
        calls: Calls::Each(1),
        stochastic: false,
        needs_negative: false,
        params: &[],
        processes: Processes::All,
        levels: None,
        automatic: &schedules::normal::SCHEDULE,
        start: |_| Box::new(Still),
    };

    /// Its id, its label and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.id, self.label].into_iter().chain(self.aliases.iter().copied())
    }

    /// This sampler's run over the levels of a schedule, and what begins it.
    ///
    /// # Errors
    /// [`Error::UnsuitedSampler`] for a model it is not made for, [`Error::Levels`] for levels above 1 on a flow.
    pub fn begin(&self, start: &Start, levels: Sigmas) -> Result<(Sigmas, Box<dyn Stepper>), Error> {
        if let (Processes::Diffusion { instead }, Process::Flow) = (self.processes, start.space.process()) {
            return Err(Error::UnsuitedSampler { sampler: self.id, space: start.space.id(), instead });
        }
        if start.space.process() == Process::Flow && levels[0] > 1.0 {
            let found = levels[0].to_string();
            return Err(Error::Levels { expected: "levels of at most 1, which is noise alone on a flow", found });
        }
        let levels = match self.levels {
            Some(own) => Sigmas::visited(own(start, &levels)),
            None => levels,
        };
        Ok((levels, (self.start)(start)))
    }
}

/// A latent that stays as it is; [`Sampler::PLAIN`].
struct Still;

impl Stepper for Still {
    fn step(&mut self, _: Step, x: Latent, _: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        Ok(x)
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(Self)
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
    /// What a number is set to, or its default.
    pub fn number(&self, param: &Param) -> f64 {
        self.options.number(param)
    }

    /// What a whole number is set to, or its default.
    pub fn whole(&self, param: &Param) -> usize {
        self.options.whole(param)
    }

    /// The place of the name that a choice is set to among its names, or 0.
    pub fn choice(&self, param: &Param) -> usize {
        self.options.choice(param)
    }
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// How the data turn into noise as sigma grows; the ancestral and stochastic samplers need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// `x = data + sigma · noise`: Stable Diffusion 1.x, 2.x and XL, in k-diffusion's scaling.
    Diffusion,
    /// `x = (1 - sigma) · data + sigma · noise`: rectified flow, as in Flux and Stable Diffusion 3.
    Flow,
}

/// Takes a latent from one sigma to the next; lives for one run and may remember earlier steps.
pub trait Stepper: Send {
    /// One step from `at.sigma()` to `at.sigma_next()`.
    ///
    /// # Errors
    /// Those of the model, or [`Error::NoNegative`] from a sampler that needs what this model does not tell.
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error>;

    /// Another stepper that remembers the same: from the same latent and noise it goes on to the same bits.
    ///
    /// It shares nothing that either of them changes.
    fn fork(&self) -> Box<dyn Stepper>;
}

/// Where a run stands; multistep samplers look at its other noise levels too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    index: usize,
    sigmas: &'a [f32],
}

impl<'a> Step<'a> {
    /// The step of that index, from 0; `None` past the last, which ends in the last of `sigmas`.
    pub fn of(sigmas: &'a [f32], index: usize) -> Option<Self> {
        (index < sigmas.len().saturating_sub(1)).then_some(Self { index, sigmas })
    }

    /// From 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Every noise level of the run, one more than there are steps.
    pub fn sigmas(&self) -> &'a [f32] {
        self.sigmas
    }

    /// The noise level of the latent that goes in.
    pub fn sigma(&self) -> f32 {
        self.sigmas[self.index]
    }

    /// The noise level of the latent that comes out; 0 in the last step.
    pub fn sigma_next(&self) -> f32 {
        self.sigmas[self.index + 1]
    }
}

/// Predicts the clean latent from a noisy one; the only thing that a sampler knows of a model.
pub trait Denoiser: Send {
    /// Told by the run before each of its steps; a wrapper passes it on to what it wraps.
    fn begin(&mut self, _step: &Step) {}

    /// The clean latent that the model sees in `x` at noise level `sigma`, in the same shape.
    ///
    /// # Errors
    /// The model's own as [`Error::Model`], [`Error::NotFinite`], or [`Error::Cancelled`] once it was told to stop.
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error>;
}

/// What a model sees in a noisy latent.
#[derive(Clone, Debug)]
pub struct Denoised {
    /// The clean latent, by everything that guides the model.
    pub latent: Latent,
    /// The model's answer to the negative prompt, where it was asked.
    pub negative: Option<Latent>,
}

impl Denoised {
    /// Both latents, for a sampler that can't do without the negative prompt's.
    ///
    /// # Errors
    /// [`Error::NoNegative`] where the model was not asked.
    pub fn both(self) -> Result<(Latent, Latent), Error> {
        Ok((self.latent, self.negative.ok_or(Error::NoNegative)?))
    }
}

impl From<Latent> for Denoised {
    /// Without an answer to the negative prompt.
    fn from(latent: Latent) -> Self {
        Self { latent, negative: None }
    }
}

/// The noise that stochastic samplers draw.
pub trait Noise: Send {
    /// The next standard normal values in the shape of `like`.
    fn next(&mut self, like: &Latent) -> Latent;

    /// Standard normal values for the step from `sigma` to `sigma_next`, in the shape of `like`: what one Brownian path for the
    /// whole run gains over it, divided by the root of its length.
    fn between(&mut self, like: &Latent, sigma: f32, sigma_next: f32) -> Latent;
}
