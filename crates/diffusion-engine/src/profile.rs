use std::{fmt, ops::Deref, sync::Arc};

use samplers::{Error, Process, Sampler, Schedule, SigmaSpace, Sigmas, Start, noise::NoiseSource};

/// Whose habits a run follows where the engines disagree: an entry of the [`Catalog`](crate::Catalog), cheap to clone and equal to
/// another by its id.
///
/// What is not said of a new one is this engine's own choice. What a profile means for one family of models alone, that family knows by
/// its id.
///
/// ```
/// use diffusion_engine::{Catalog, Profile};
/// use samplers::noise::NoiseSource;
///
/// let mine = Profile::new("mine").noise(NoiseSource::Nv).ensd(31_337).drops_penultimate(["dpm_2"]);
/// let catalog = Catalog::builtin().with_profile(mine);
/// assert_eq!(catalog.profile("Mine")?.ensd, 31_337);
/// # Ok::<(), samplers::Error>(())
/// ```
#[derive(Clone)]
pub struct Profile(Arc<ProfileEntry>);

/// What a profile decides.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProfileEntry {
    /// The name in configs and flags.
    pub id: String,
    /// Where the noise comes from if nothing is said.
    pub noise: NoiseSource,
    /// What is added to the seed for the noise that steps draw, which then begins anew; 0 where it goes on with the noise of the start.
    pub ensd: u64,
    /// What is meant by a schedule's id, where that is another schedule.
    variants: Vec<(String, Schedule)>,
    /// What is meant by the ids of samplers on [`Process::Diffusion`], where that is something else.
    samplers: Vec<Sampler>,
    /// The ids of the samplers with which the last level above 0 is left out.
    dropping: Vec<String>,
    img2img: Arc<PartlyNoised>,
    /// The same on [`Process::Flow`].
    img2img_on_flows: Arc<PartlyNoised>,
    /// Whether the noise of steps is on a path over all levels of the schedule, also where only its last steps are taken.
    pub whole_path: bool,
    /// What is not drawn anew of a picture, while the rest is.
    pub kept: KeptNoise,
    /// Whether what is not drawn anew is kept in every step with models, too, that are shown the picture.
    pub keeps_shown: bool,
    /// Whether a pass on [`Process::Diffusion`] that draws a part of a picture anew, all of which becomes noise, starts from noise alone.
    pub parts_from_noise: bool,
}

/// The noise over that part of a picture which is not drawn anew, in what a model sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptNoise {
    /// Other noise in every call.
    Anew,
    /// That which the pass started from.
    Start,
    /// What the sampler makes of it.
    Sampler,
}

impl std::fmt::Debug for ProfileEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("ProfileEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

type PartlyNoised = dyn Fn(usize, f64) -> (usize, usize) + Send + Sync;

impl Profile {
    /// A profile by its id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(Arc::new(ProfileEntry {
            id: id.into(),
            noise: NoiseSource::Cpu,
            ensd: 0,
            variants: Vec::new(),
            samplers: Vec::new(),
            dropping: Vec::new(),
            img2img: Arc::new(a_share_and_one),
            img2img_on_flows: Arc::new(a_share_and_one),
            whole_path: false,
            kept: KeptNoise::Start,
            keeps_shown: true,
            parts_from_noise: false,
        }))
    }

    /// Where the noise comes from if nothing is said.
    pub fn noise(self, noise: NoiseSource) -> Self {
        self.with(|entry| entry.noise = noise)
    }

    /// What is added to the seed for the noise that steps draw.
    pub fn ensd(self, ensd: u64) -> Self {
        self.with(|entry| entry.ensd = ensd)
    }

    /// One more schedule that is meant by another's id.
    pub fn means(self, id: impl Into<String>, schedule: Schedule) -> Self {
        self.with(|entry| entry.variants.push((id.into(), schedule)))
    }

    /// Samplers that are meant by their ids on [`Process::Diffusion`], where others mean something else by them.
    pub fn samples(self, samplers: impl IntoIterator<Item = Sampler>) -> Self {
        self.with(|entry| entry.samplers = samplers.into_iter().collect())
    }

    /// Leaves out the last level above 0 with the samplers of these ids, and spaces one step more for it.
    pub fn drops_penultimate(self, samplers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|entry| entry.dropping = samplers.into_iter().map(Into::into).collect())
    }

    /// How a picture that is only partly noised is taken through a schedule; [`Profile::img2img_steps`] says what comes in and out.
    pub fn img2img(self, steps: impl Fn(usize, f64) -> (usize, usize) + Send + Sync + 'static) -> Self {
        let steps: Arc<PartlyNoised> = Arc::new(steps);
        self.with(|entry| (entry.img2img, entry.img2img_on_flows) = (steps.clone(), steps))
    }

    /// How it is taken through one on [`Process::Flow`], where that is another matter.
    pub fn img2img_on_flows(self, steps: impl Fn(usize, f64) -> (usize, usize) + Send + Sync + 'static) -> Self {
        self.with(|entry| entry.img2img_on_flows = Arc::new(steps))
    }

    /// Has the noise of steps be on a path over all levels of the schedule, also where only its last steps are taken.
    pub fn whole_path(self) -> Self {
        self.with(|entry| entry.whole_path = true)
    }

    /// What a model sees of that part of a picture which is not drawn anew.
    pub fn keeps(self, kept: KeptNoise) -> Self {
        self.with(|entry| entry.kept = kept)
    }

    /// Leaves a model to itself that is shown the picture.
    pub fn leaves_shown(self) -> Self {
        self.with(|entry| entry.keeps_shown = false)
    }

    /// Has a pass on [`Process::Diffusion`] start from noise alone where a part of a picture is drawn anew and all of it becomes noise; else a
    /// trace of the picture is left below the highest noise level.
    pub fn parts_from_noise(self) -> Self {
        self.with(|entry| entry.parts_from_noise = true)
    }

    fn with(mut self, change: impl FnOnce(&mut ProfileEntry)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What is meant by a schedule's name.
    pub fn variant(&self, schedule: &Schedule) -> Schedule {
        let own = self.variants.iter().find(|(id, _)| *id == schedule.id);
        own.map_or(schedule, |(_, own)| own).clone()
    }

    /// What is meant by a sampler's id on a model's noise levels.
    pub fn sampler(&self, sampler: &Sampler, space: &SigmaSpace) -> Sampler {
        let own = self.samplers.iter().find(|own| *own == sampler && space.process() == Process::Diffusion);
        own.unwrap_or(sampler).clone()
    }

    /// Whether the last level above 0 is left out with a sampler, and one step more is spaced for it.
    pub fn is_dropping(&self, sampler: &Sampler) -> bool {
        self.dropping.contains(&sampler.id)
    }

    /// The noise levels of a run with the rule for the last but one.
    ///
    /// # Errors
    /// As [`Schedule::sigmas`].
    pub fn levels(&self, schedule: &Schedule, sampler: &Sampler, start: &Start) -> Result<Sigmas, Error> {
        let Start { steps, options, .. } = *start;
        let space = sampler.spaces(start.space);
        if self.is_dropping(sampler) && steps < Schedule::MAX_STEPS {
            Ok(schedule.sigmas(&space, steps + 1, options)?.without_penultimate())
        } else {
            schedule.sigmas(&space, steps, options)
        }
    }

    /// How a picture that is only partly noised is taken through a schedule: the steps that the schedule is made for, and how
    /// many of its last are taken. `strength` is the share of the noise, above 0 to 1.
    pub fn img2img_steps(&self, process: Process, steps: usize, strength: f64) -> (usize, usize) {
        match process {
            Process::Diffusion => (self.img2img)(steps, strength),
            Process::Flow => (self.img2img_on_flows)(steps, strength),
        }
    }
}

impl Deref for Profile {
    type Target = ProfileEntry;

    fn deref(&self) -> &ProfileEntry {
        &self.0
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Profile({:?})", self.id)
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// That share of the steps and one: Forge, modules/sd_samplers_common.py `setup_img2img_steps`, dfdcbab.
fn a_share_and_one(steps: usize, strength: f64) -> (usize, usize) {
    const MOST: f64 = 0.999;
    (steps, ((strength.min(MOST) * steps as f64) as usize + 1).min(steps))
}
