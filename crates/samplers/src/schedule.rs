use crate::{
    Error, Options, Param, Sampler, SigmaSpace, Sigmas,
    schedules::{automatic, ends},
};

/// Everything that is known about a way of spacing noise levels.
#[derive(Debug)]
pub struct Schedule {
    /// The name in configs and flags.
    pub id: &'static str,
    /// The name that people and infotexts know it by.
    pub label: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// What it is in a sentence, and how it differs from what other engines call by one of its names.
    pub about: &'static str,
    /// The spaces that it is made for.
    pub spaces: Spaces,
    /// What it can be told.
    pub params: &'static [&'static Param],
    /// What comes after its levels.
    pub end: End,
    /// The levels of a run of so many steps, descending, without a final zero.
    pub levels: fn(&SigmaSpace, usize, &Options) -> Vec<f64>,
}

/// How a schedule's levels end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A zero comes after them: the picture is fully denoised.
    Zero,
    /// Nothing comes after them: a little noise stays in the picture.
    Last,
}

/// The noise levels that a schedule is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// Those of every model.
    All,
    /// [`SigmaSpace::Flow`] alone.
    Flow,
    /// All but [`SigmaSpace::Flow`].
    Discrete,
}

impl Spaces {
    /// Whether this is one of them.
    pub fn hold(self, space: &SigmaSpace) -> bool {
        match self {
            Self::All => true,
            Self::Flow => matches!(space, SigmaSpace::Flow { .. }),
            Self::Discrete => !matches!(space, SigmaSpace::Flow { .. }),
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
    /// What most schedules have in common: every space, no options, a zero at the end.
    ///
    /// It has no levels; everything but the name and `levels` may be left to it.
    pub const PLAIN: Self = Self {
        id: "",
        label: "",
        aliases: &[],
        about: "",
        spaces: Spaces::All,
        params: &[],
        end: End::Zero,
        levels: |_, _, _| Vec::new(),
    };

    /// The most steps that are accepted: the length of the timestep table that models are trained with.
    pub const MAX_STEPS: usize = 1000;

    /// Its id, its label and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.id, self.label].into_iter().chain(self.aliases.iter().copied())
    }

    /// This schedule, or what `automatic` stands for with that sampler and model.
    pub fn resolved(&'static self, sampler: &Sampler, space: &SigmaSpace) -> &'static Self {
        let [on_flows, on_others] = self.meanings(sampler);
        match space {
            SigmaSpace::Flow { .. } => on_flows,
            _ => on_others,
        }
    }

    /// What it stands for with that sampler: on a [`SigmaSpace::Flow`], and on others.
    pub fn meanings(&'static self, sampler: &Sampler) -> [&'static Self; 2] {
        match *self == automatic::SCHEDULE {
            true => [&crate::SIMPLE, sampler.automatic],
            false => [self, self],
        }
    }

    /// The noise levels of a run over a model's space, for `steps` steps, and what is set of it.
    ///
    /// Schedules that pick from the model's table may make a few steps more or fewer, as they do elsewhere: ask
    /// [`Sigmas::steps`].
    ///
    /// # Errors
    /// [`Error::Steps`] unless `steps` is 1 to [`Schedule::MAX_STEPS`], [`Error::Unsuited`] for a space it is not made for,
    /// [`Error::Levels`] where the options leave no levels that descend.
    pub fn sigmas(&self, space: &SigmaSpace, steps: usize, options: &Options) -> Result<Sigmas, Error> {
        if steps == 0 || steps > Self::MAX_STEPS {
            return Err(Error::Steps { steps, max: Self::MAX_STEPS });
        }
        if !self.spaces.hold(space) {
            return Err(Error::Unsuited { schedule: self.id, space: space.id(), instead: crate::SIMPLE.id });
        }
        let (highest, lowest) = ends(space, options);
        if lowest >= highest {
            let found = format!("{lowest} to {highest}");
            return Err(Error::Levels { expected: "a lowest level below the highest", found });
        }
        let mut levels = (self.levels)(space, steps, options);
        if self.end == End::Zero {
            levels.push(0.0);
        }
        Sigmas::literal(&levels)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
