use crate::{Error, Sampler, SigmaSpace, Sigmas, schedules::automatic};

/// Everything that is known about a way of spacing noise levels.
#[derive(Debug)]
pub struct Schedule {
    /// The name in configs and flags.
    pub id: &'static str,
    /// The name that people and infotexts know it by.
    pub label: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// The spaces that it can fill, and what to take for the others.
    pub spaces: Spaces,
    /// The levels of a run, without the final zero, descending.
    pub(crate) levels: fn(&SigmaSpace, usize) -> Vec<f64>,
}

/// The noise levels that a schedule is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// Those of every model.
    All,
    /// [`SigmaSpace::Flow`] alone.
    Flow,
    /// [`SigmaSpace::Discrete`] alone.
    Discrete,
}

impl Spaces {
    /// Whether this is one of them.
    pub fn hold(self, space: &SigmaSpace) -> bool {
        match self {
            Self::All => true,
            Self::Flow => matches!(space, SigmaSpace::Flow { .. }),
            Self::Discrete => matches!(space, SigmaSpace::Discrete),
        }
    }

    /// The name in lists.
    pub fn id(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Flow => "flow",
            Self::Discrete => "discrete",
        }
    }
}

impl Schedule {
    /// The most steps that are accepted: the length of the timestep table that models are trained with.
    pub const MAX_STEPS: usize = 1000;

    /// This schedule, or what `automatic` stands for with that sampler and model.
    pub fn resolved(&'static self, sampler: &Sampler, space: &SigmaSpace) -> &'static Self {
        match space {
            _ if *self != automatic::SCHEDULE => self,
            SigmaSpace::Flow { .. } => &crate::SIMPLE,
            SigmaSpace::Discrete => sampler.automatic,
        }
    }

    /// The noise levels of a run over a model's space, for `steps` steps.
    ///
    /// `ddim_uniform` and `beta` pick from the model's table and may make a few steps more or fewer, as they do in ComfyUI:
    /// ask [`Sigmas::steps`].
    ///
    /// # Errors
    /// [`Error::Steps`] unless `steps` is 1 to [`Schedule::MAX_STEPS`], [`Error::Unsuited`] for a space it is not made for.
    pub fn sigmas(&self, space: &SigmaSpace, steps: usize) -> Result<Sigmas, Error> {
        if steps == 0 || steps > Self::MAX_STEPS {
            return Err(Error::Steps { steps, max: Self::MAX_STEPS });
        }
        if !self.spaces.hold(space) {
            return Err(Error::Unsuited { schedule: self.id, space: space.id(), instead: crate::SIMPLE.id });
        }
        Ok(Sigmas::ending_in_zero((self.levels)(space, steps)))
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
