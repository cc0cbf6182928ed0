use std::{fmt, ops::RangeInclusive, sync::Arc};

use samplers::{Options, Param, Process, Sampler, Schedule};

use crate::{
    Emphasis, Error, ExtraNetwork, FromPictures, Key, PerStep, Profile, Raster, Size, Upscaler, Which, Wrap,
    extra_networks, prompt::is_composed,
};

/// One way from a noisy latent to a clean one.
#[derive(Clone)]
pub struct Pass {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show; counts where `cfg` is above 1.
    pub negative: String,
    /// How the weights of words in both count.
    pub emphasis: Emphasis,
    /// The prompt before its random choices were made, where it had any: for the picture's text alone.
    pub template: Option<String>,
    /// That of the negative prompt.
    pub negative_template: Option<String>,
    /// Steps that were asked for, 1 to 1000.
    pub steps: usize,
    /// How steps are taken.
    pub sampler: Sampler,
    /// How noise levels are spaced.
    pub schedule: Schedule,
    /// Noise levels that take the schedule's place, from the highest; then they say how many steps there are.
    pub sigmas: Option<Vec<f64>>,
    /// Options of the sampler and the schedule; `forge samplers` and `forge schedules` list them.
    pub options: Options,
    /// Whose habits to follow where engines disagree.
    pub profile: Profile,
    /// Classifier-free guidance from step to step, 1 to 100; a step above 1 calls the model twice.
    pub cfg: PerStep,
    /// The picture's size.
    pub size: Size,
    /// The family's own settings, by the names of its [keys](crate::Model::knobs).
    pub knobs: Options,
    /// The LoRAs that its prompts name and that are in the model.
    pub loras: Vec<Applied>,
    /// Where it starts.
    pub start: Origin,
    /// A picture of any size, stretched to the pass's, that a model is shown beside the latent which is made for that, such as edges or depths.
    pub control: Option<Arc<Raster<3>>>,
    /// What makes a start of this size of what the pass before made, where that has another.
    pub upscaler: Upscaler,
    /// The size that it makes, of which the middle is kept; `size` where nothing is said. Sides are rounded down to the latent's pixels.
    pub enlarged_to: Option<Size>,
    /// Whether all `steps` are taken where only a share becomes noise, at the last levels of a longer schedule.
    pub all_steps: bool,
    /// Which of the job's models it is drawn with.
    pub model: Which,
    /// From which share of its calls on the refiner goes on with it, 0 to 1; nowhere if nothing is said.
    pub refined_from: Option<f64>,
    /// What is wrapped around the model's calls, the last one outermost.
    pub wraps: Vec<Arc<dyn Wrap>>,
}

/// A LoRA that is in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What prompts call it by.
    pub network: ExtraNetwork,
    /// What programs know its file by, as A1111 counts it; `None` where that was not asked for.
    pub hash: Option<String>,
}

/// Where a pass starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// From noise.
    Noise,
    /// From what the pass before made, of which a share, above 0 to 1, becomes noise again.
    Last(f64),
    /// From pictures.
    Pictures(Arc<FromPictures>),
}

impl Origin {
    /// From what the pass before made, of which this share becomes noise again.
    ///
    /// # Errors
    /// [`Error::Request`] unless it is above 0 and at most 1.
    pub(crate) fn again(strength: f64) -> Result<Self, Error> {
        if strength > 0.0 && strength <= 1.0 {
            return Ok(Self::Last(strength));
        }
        let (expected, found) = ("above 0, to 1".into(), strength.to_string());
        Err(Error::Request { what: "the strength of a pass", expected, found })
    }
}

impl Pass {
    /// The longest prompt, in bytes: many times what any encoder sees, and little enough to be cut into tokens at once.
    pub const MAX_PROMPT: usize = 64 << 10;

    /// What `cfg` may be in a step.
    pub const CFG: RangeInclusive<f32> = 1.0..=100.0;

    /// From noise to a picture of 1024 × 1024 pixels in 20 Euler steps.
    pub fn of(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: String::new(),
            emphasis: Emphasis::default(),
            template: None,
            negative_template: None,
            steps: 20,
            sampler: samplers::euler(),
            schedule: samplers::simple(),
            sigmas: None,
            options: Options::default(),
            profile: Profile::default(),
            cfg: PerStep::Same(1.0),
            size: Size { width: 1024, height: 1024 },
            knobs: Options::default(),
            loras: Vec::new(),
            start: Origin::Noise,
            control: None,
            upscaler: Upscaler::default(),
            enlarged_to: None,
            all_steps: false,
            model: Which::First,
            refined_from: None,
            wraps: Vec::new(),
        }
    }

    /// Whether the model is asked what it would do with the negative prompt.
    pub fn needs_negative(&self) -> bool {
        self.cfg.largest() > 1.0 || self.sampler.needs_negative || is_composed(&self.prompt)
    }

    /// The first call that is the refiner's, of a pass of so many steps: as in Forge, calls are counted where a sampler has two in each
    /// (modules/sd_samplers_common.py `apply_refiner`, dfdcbab).
    pub(crate) fn refined_from_call(&self, steps: usize) -> Option<usize> {
        let calls = steps.saturating_mul(self.sampler.calls.per_step().unwrap_or(1).into());
        let share = self.refined_from?;
        (0..calls).find(|call| *call as f64 / calls as f64 >= share)
    }

    /// What its prompts name in angle brackets, in their order.
    pub fn extra_networks(&self) -> Vec<ExtraNetwork> {
        [&self.prompt, &self.negative].into_iter().flat_map(|prompt| extra_networks(prompt)).collect()
    }

    /// Whether pictures are encoded for it.
    pub fn encodes(&self) -> bool {
        match &self.start {
            Origin::Noise => self.control.is_some(),
            Origin::Pictures(_) => true,
            Origin::Last(_) => self.upscaler.takes_pixels() || self.control.is_some(),
        }
    }

    /// The largest picture that there is on its way.
    pub fn largest(&self) -> Size {
        if self.encodes() { self.enlarged_to.unwrap_or(self.size) } else { self.size }
    }

    /// The largest picture that is encoded on its way: one that it starts from may be larger than the pass.
    pub fn largest_encoded(&self) -> Size {
        let given = match &self.start {
            Origin::Pictures(from) => from.own_size(),
            Origin::Noise | Origin::Last(_) => None,
        };
        let area = |size: &Size| size.width.saturating_mul(size.height);
        given.into_iter().chain([self.largest()]).max_by_key(area).unwrap_or(self.size)
    }

    /// The options of the sampler and the schedule, whatever the model: where the schedule is `automatic`, of all that it may stand for.
    pub fn params(&self) -> Vec<Param> {
        let schedules = self.schedule.meanings(&self.sampler);
        let of_schedules = schedules.iter().flat_map(|schedule| self.profile.variant(schedule).params.clone());
        self.sampler.params.iter().cloned().chain(of_schedules).collect()
    }

    /// Finds what is wrong with it that can be told without a model.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { prompt, negative, steps, options, cfg, .. } = self;
        options.checked(&self.params())?;
        if let Origin::Pictures(from) = &self.start {
            from.check()?;
        }
        for (what, prompt) in [("the prompt", prompt), ("the negative prompt", negative)] {
            if prompt.len() > Self::MAX_PROMPT {
                let expected = format!("at most {} bytes", Self::MAX_PROMPT);
                return Err(Error::Request { what, expected, found: format!("{} bytes long", prompt.len()) });
            }
        }
        if let Some(found) = cfg.outside(&Self::CFG) {
            return Err(Error::Request { what: "cfg", expected: "1 to 100".into(), found: found.to_string() });
        }
        if let PerStep::Each(numbers) = cfg
            && !(1..=PerStep::MOST).contains(&numbers.len())
        {
            let (expected, found) = (format!("1 to {} numbers", PerStep::MOST), numbers.len().to_string());
            return Err(Error::Request { what: "cfg", expected, found });
        }
        if !(1..=Schedule::MAX_STEPS).contains(steps) {
            return Err(samplers::Error::Steps { steps: *steps, max: Schedule::MAX_STEPS }.into());
        }
        if let Some(share) = self.refined_from
            && !(0.0..=1.0).contains(&share)
        {
            let (expected, found) = ("0 to 1".into(), share.to_string());
            return Err(Error::Request { what: "where the refiner takes over", expected, found });
        }
        // Which process a model's is, nobody knows yet.
        let is_too_long = |strength: f64| {
            let spaced_for = |process| self.spaced_for(process, strength).0;
            spaced_for(Process::Diffusion).max(spaced_for(Process::Flow)) > Schedule::MAX_STEPS
        };
        match (&self.start, &self.sigmas) {
            (&Origin::Last(strength), None) if is_too_long(strength) => {
                let expected =
                    format!("one that {steps} steps make no schedule of more than {} of", Schedule::MAX_STEPS);
                Err(Error::Request { what: "the strength of a pass", expected, found: strength.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The steps that a schedule is made for where a share becomes noise, and how many of its last are taken.
    pub(crate) fn spaced_for(&self, process: Process, strength: f64) -> (usize, usize) {
        match self.all_steps {
            true => exact_steps(self.steps, strength),
            false => self.profile.img2img_steps(process, self.steps, strength),
        }
    }

    /// Finds what is wrong with the family's own settings, of which a model has these.
    ///
    /// # Errors
    /// [`Error::Request`] for a value that its key does not take.
    pub(crate) fn check_knobs(&self, knobs: &[Key]) -> Result<(), Error> {
        knobs.iter().try_for_each(|key| {
            let Some(value) = self.knobs.value(key.name).map(|option| key.value(option)) else { return Ok(()) };
            let wrong = |expected| Error::Request { what: key.name, expected, found: value.shown() };
            key.kind.check(&value).map_err(wrong)
        })
    }
}

/// All steps that are asked for, of a longer schedule: Forge modules/sd_samplers_common.py `setup_img2img_steps`, dfdcbab.
pub(crate) fn exact_steps(steps: usize, strength: f64) -> (usize, usize) {
    const MOST: f64 = 0.999;
    ((steps as f64 / strength.min(MOST)) as usize, steps)
}

/// Two passes are equal if all their settings are and the same values are wrapped around them.
impl PartialEq for Pass {
    fn eq(&self, other: &Self) -> bool {
        let Self { prompt, negative, steps, sampler, schedule, sigmas, options, .. } = self;
        let Self { emphasis, template, negative_template, profile, cfg, size, knobs, loras, start, wraps, .. } = self;
        let Self { upscaler, enlarged_to, all_steps, model, refined_from, .. } = self;
        let same_wraps = || wraps.iter().zip(&other.wraps).all(|(a, b)| Arc::ptr_eq(a, b));
        (prompt, negative, steps, sampler, schedule)
            == (&other.prompt, &other.negative, &other.steps, &other.sampler, &other.schedule)
            && (sigmas, options, profile, cfg) == (&other.sigmas, &other.options, &other.profile, &other.cfg)
            && (emphasis, size, knobs, start) == (&other.emphasis, &other.size, &other.knobs, &other.start)
            && (upscaler, enlarged_to, all_steps) == (&other.upscaler, &other.enlarged_to, &other.all_steps)
            && (model, refined_from) == (&other.model, &other.refined_from)
            && (template, negative_template, loras) == (&other.template, &other.negative_template, &other.loras)
            && wraps.len() == other.wraps.len()
            && same_wraps()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { prompt, size, steps, sampler, start, wraps, .. } = self;
        f.debug_struct("Pass")
            .field("prompt", prompt)
            .field("size", size)
            .field("steps", steps)
            .field("sampler", &sampler.id)
            .field("start", start)
            .field("wraps", &wraps.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use samplers::Value;

    use super::*;
    use crate::{Fallback, Kind};

    #[test]
    fn a_familys_setting_that_its_key_does_not_take_is_refused_by_its_name() {
        let key = Key::of(Kind::Whole { min: 1, max: 9, step: 1 }, Fallback::Whole(1)).at("prompt", "room", "");
        let checked = |value: Value| {
            let mut pass = Pass::of("");
            pass.knobs.set("room", value);
            pass.check_knobs(&[key]).map_err(|error| error.to_string())
        };
        assert_eq!(Pass::of("").check_knobs(&[key]).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(checked(Value::Number(9.0)), Ok(()));
        assert_eq!(checked(Value::Number(10.0)), Err("room is 10, expected 1 to 9".to_owned()));
        for wrong in [Value::Number(1.5), Value::Number(f64::NAN), Value::Name("big".into())] {
            assert!(checked(wrong).is_err());
        }
    }

    #[test]
    fn passes_are_equal_that_have_equal_settings_and_the_same_wraps() {
        let wrap: Arc<dyn Wrap> = Arc::new(crate::Guidance);
        let wrapped = |wrap: &Arc<dyn Wrap>| Pass { wraps: vec![wrap.clone()], ..Pass::of("a") };
        assert_eq!(wrapped(&wrap), wrapped(&wrap));
        assert_ne!(wrapped(&wrap), Pass::of("a"));
        assert_ne!(Pass::of("a"), Pass { cfg: 2.0.into(), ..Pass::of("a") });
        assert_ne!(Pass::of("a"), Pass { start: Origin::Last(1.0), ..Pass::of("a") });
    }
}
