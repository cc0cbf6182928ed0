use std::{fmt, ops::Deref, sync::Arc};

use crate::{Error, Options, Param, SigmaSpace, Sigmas, ends::ends, sigmas::MAX_STEPS};

/// A way of spacing noise levels: an entry of the [`Registry`](crate::Registry), cheap to clone and equal to another by its id.
///
/// What is not said of a new one is what most have in common: every space, no options, a zero at the end.
///
/// ```
/// use samplers::{Options, Schedule, SigmaSpace};
///
/// let halves = Schedule::new("halves", "Halves", |space, steps, _| {
///     let (highest, _) = space.ends();
///     Ok((0..steps).map(|i| highest * 0.5f64.powi(i as i32)).collect())
/// });
/// let space = SigmaSpace::Flow { shift: None, tokens: 4096 };
/// assert_eq!(halves.sigmas(&space, 3, &Options::default())?[..], [1.0, 0.5, 0.25, 0.0]);
/// # Ok::<(), samplers::Error>(())
/// ```
#[derive(Clone)]
pub struct Schedule(Arc<ScheduleEntry>);

/// Everything that is known about a schedule.
#[derive(Clone)]
#[non_exhaustive]
pub struct ScheduleEntry {
    /// The name in configs and flags.
    pub id: String,
    /// The name that people and infotexts know it by.
    pub label: String,
    /// Other spellings that are accepted.
    pub aliases: Vec<String>,
    /// What it is in a sentence, and how it differs from what other engines call by one of its names.
    pub about: String,
    /// The spaces that it is made for.
    pub spaces: Spaces,
    /// What it can be told.
    pub params: Vec<Param>,
    /// What comes after its levels.
    pub end: End,
    levels: Arc<Levels>,
}

impl std::fmt::Debug for ScheduleEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("ScheduleEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

type Levels = dyn Fn(&SigmaSpace, usize, &Options) -> Result<Vec<f64>, Error> + Send + Sync;

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
    /// The most steps that are accepted: the length of the timestep table that models are trained with.
    pub const MAX_STEPS: usize = MAX_STEPS;

    /// A schedule by its id and its label, and the levels of a run of so many steps, descending, without a final zero.
    ///
    /// `levels` may keep state and may fail, with [`Error::Schedule`] for a cause of its own; [`Schedule::sigmas`] refuses levels that
    /// are not finite or don't descend.
    pub fn new(
        id: impl Into<String>,
        label: impl Into<String>,
        levels: impl Fn(&SigmaSpace, usize, &Options) -> Result<Vec<f64>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ScheduleEntry {
            id: id.into(),
            label: label.into(),
            aliases: Vec::new(),
            about: String::new(),
            spaces: Spaces::All,
            params: Vec::new(),
            end: End::Zero,
            levels: Arc::new(levels),
        }))
    }

    /// One whose levels can't fail.
    pub(crate) fn of(id: &str, label: &str, levels: fn(&SigmaSpace, usize, &Options) -> Vec<f64>) -> Self {
        Self::new(id, label, move |space, steps, options| Ok(levels(space, steps, options)))
    }

    /// Other spellings that are accepted.
    pub fn aliases(self, aliases: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|entry| entry.aliases = aliases.into_iter().map(Into::into).collect())
    }

    /// What it is in a sentence.
    pub fn about(self, about: impl Into<String>) -> Self {
        self.with(|entry| entry.about = about.into())
    }

    /// The spaces that it is made for.
    pub fn spaces(self, spaces: Spaces) -> Self {
        self.with(|entry| entry.spaces = spaces)
    }

    /// What it can be told; a [`Setting`](crate::Setting) reads it from the options.
    pub fn params(self, params: impl IntoIterator<Item = Param>) -> Self {
        self.with(|entry| entry.params = params.into_iter().collect())
    }

    /// What comes after its levels.
    pub fn end(self, end: End) -> Self {
        self.with(|entry| entry.end = end)
    }

    fn with(mut self, change: impl FnOnce(&mut ScheduleEntry)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Its id, its label and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.id, &self.label].into_iter().chain(&self.aliases).map(String::as_str)
    }

    /// The noise levels of a run of `steps` steps over a model's space, with its options.
    ///
    /// Schedules that pick from the model's table may make a few steps more or fewer, as they do elsewhere: ask
    /// [`Sigmas::steps`].
    ///
    /// # Errors
    /// [`Error::Steps`] unless `steps` is 1 to [`Schedule::MAX_STEPS`], [`Error::Unsuited`] for a space it is not made for,
    /// [`Error::Levels`] where its levels don't descend, as where the options leave none that do, and the schedule's own.
    pub fn sigmas(&self, space: &SigmaSpace, steps: usize, options: &Options) -> Result<Sigmas, Error> {
        if steps == 0 || steps > Self::MAX_STEPS {
            return Err(Error::Steps { steps, max: Self::MAX_STEPS });
        }
        if !self.spaces.hold(space) {
            let (schedule, instead) = (self.id.clone(), SIMPLE.to_owned());
            return Err(Error::Unsuited { schedule, space: space.id(), instead });
        }
        let (highest, lowest) = ends(space, options);
        if lowest >= highest {
            let found = format!("{lowest} to {highest}");
            return Err(Error::Levels { expected: "a lowest level below the highest", found });
        }
        let mut levels = (self.levels)(space, steps, options)?;
        if self.end == End::Zero {
            levels.push(0.0);
        }
        Sigmas::literal(&levels)
    }
}

/// The schedule that stands for another.
pub(crate) const AUTOMATIC: &str = "automatic";

/// The schedule that suits every space.
pub(crate) const SIMPLE: &str = "simple";

impl Deref for Schedule {
    type Target = ScheduleEntry;

    fn deref(&self) -> &ScheduleEntry {
        &self.0
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Schedule({:?})", self.id)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
