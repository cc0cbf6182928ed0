use samplers::{Options, Param, Sampler, Schedule, Value, noise::NoiseSource};

use crate::{Error, Profile, Size};

/// What to draw, and how.
///
/// ```
/// use diffusion_engine::{Size, Txt2Img};
///
/// let request = Txt2Img::of("a lighthouse in a storm").seed(42).steps(4).size(Size { width: 768, height: 512 });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Txt2Img {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show; counts where `cfg` is above 1.
    pub negative: String,
    /// The noise of picture `i` of a batch is that of `seed + i`.
    pub seed: u64,
    /// Where the noise comes from.
    pub noise: NoiseSource,
    /// Steps from noise to picture, 1 to 1000.
    pub steps: usize,
    /// How steps are taken.
    pub sampler: Sampler,
    /// How noise levels are spaced.
    pub schedule: Schedule,
    /// Noise levels that take the schedule's place, from the highest; then they say how many steps there are.
    pub sigmas: Option<Vec<f64>>,
    /// What is set of the sampler and the schedule; `forge samplers` and `forge schedules` say what there is.
    pub options: Options,
    /// Whose habits to follow where engines disagree.
    pub profile: Profile,
    /// Distilled guidance, for models that were trained with it.
    pub guidance: f32,
    /// Classifier-free guidance, from 1; above 1 each step calls the model twice.
    pub cfg: f32,
    /// The picture's size.
    pub size: Size,
    /// How many pictures, at once.
    pub batch: usize,
    /// Tokens that the prompt is padded to, for models that pad it; `None` for the profile's and model's own.
    pub text_length: Option<usize>,
}

impl Txt2Img {
    /// The longest prompt, in bytes: many times what any encoder sees, and little enough to be cut into tokens at once.
    pub const MAX_PROMPT: usize = 64 << 10;

    /// The most pictures at once.
    pub const MAX_BATCH: usize = 64;

    /// The most tokens that a prompt is padded to.
    pub const MAX_TEXT_LENGTH: usize = 4096;

    /// A request for one picture of 1024 × 1024 pixels in 20 Euler steps.
    pub fn of(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: String::new(),
            seed: 0,
            noise: NoiseSource::Cpu,
            steps: 20,
            sampler: samplers::euler(),
            schedule: samplers::simple(),
            sigmas: None,
            options: Options::default(),
            profile: Profile::default(),
            guidance: 3.5,
            cfg: 1.0,
            size: Size { width: 1024, height: 1024 },
            batch: 1,
            text_length: None,
        }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of steps.
    pub fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }

    /// Sets the picture's size.
    pub fn size(self, size: Size) -> Self {
        Self { size, ..self }
    }

    /// The family's own settings, by name.
    pub(crate) fn knobs(&self) -> Options {
        let mut knobs = Options::default();
        knobs.set("guidance", Value::Number(self.guidance.into()));
        if let Some(length) = self.text_length {
            knobs.set("text_length", Value::Number(length as f64));
        }
        knobs
    }

    /// The same request with a family's settings.
    pub(crate) fn with_knobs(self, knobs: &Options) -> Self {
        let number =
            |name| knobs.value(name).and_then(|value| if let Value::Number(x) = value { Some(*x) } else { None });
        let guidance = number("guidance").map_or(self.guidance, |x| x as f32);
        let text_length = number("text_length").map(|x| x as usize);
        Self { guidance, text_length, ..self }
    }

    /// What can be set of the sampler and the schedule, whatever the model: where the schedule is `automatic`, of all that it may stand
    /// for.
    pub fn params(&self) -> Vec<Param> {
        let schedules = self.schedule.meanings(&self.sampler);
        let of_schedules = schedules.iter().flat_map(|schedule| self.profile.variant(schedule).params.clone());
        self.sampler.params.iter().cloned().chain(of_schedules).collect()
    }

    /// The same request, if nothing is wrong with it that can be told without a model.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist.
    pub fn checked(self) -> Result<Self, Error> {
        self.options.checked(&self.params())?;
        let wrong =
            |what, expected: &str, found: String| Err(Error::Request { what, expected: expected.into(), found });
        for (what, prompt) in [("the prompt", &self.prompt), ("the negative prompt", &self.negative)] {
            if prompt.len() > Self::MAX_PROMPT {
                let expected = format!("at most {} bytes", Self::MAX_PROMPT);
                return wrong(what, &expected, format!("{} bytes long", prompt.len()));
            }
        }
        match self {
            Self { cfg, .. } if !(1.0..=100.0).contains(&cfg) => wrong("cfg", "1 to 100", cfg.to_string()),
            Self { guidance, .. } if !(0.0..=100.0).contains(&guidance) => {
                wrong("guidance", "0 to 100", guidance.to_string())
            }
            Self { steps, .. } if !(1..=Schedule::MAX_STEPS).contains(&steps) => {
                Err(samplers::Error::Steps { steps, max: Schedule::MAX_STEPS }.into())
            }
            Self { batch, .. } if !(1..=Self::MAX_BATCH).contains(&batch) => {
                wrong("batch", &format!("1 to {}", Self::MAX_BATCH), batch.to_string())
            }
            Self { text_length: Some(n), .. } if !(1..=Self::MAX_TEXT_LENGTH).contains(&n) => {
                wrong("t5_length", &format!("1 to {}", Self::MAX_TEXT_LENGTH), n.to_string())
            }
            request => Ok(request),
        }
    }
}
