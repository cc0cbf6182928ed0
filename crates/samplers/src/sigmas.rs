use std::{ops::Deref, sync::LazyLock};

/// A descending list of noise levels that ends in zero.
///
/// Never shorter than two, never NaN: [`Schedule::sigmas`](crate::Schedule::sigmas) is the only way to make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmas(Vec<f32>);

impl Sigmas {
    pub(crate) fn ending_in_zero(levels: Vec<f64>) -> Self {
        debug_assert!(!levels.is_empty() && levels.windows(2).all(|w| w[0] > w[1]), "levels descend: {levels:?}");
        Self(levels.into_iter().map(|s| s as f32).chain([0.0]).collect())
    }

    /// How many steps they make: one less than there are levels.
    pub fn steps(&self) -> usize {
        self.0.len() - 1
    }
}

impl Deref for Sigmas {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// The noise levels that a model was trained on: a table, and a function of time between its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SigmaSpace {
    /// The table of Stable Diffusion 1.x and XL: 1000 levels, 0.0292 to 14.61; time is the place in the table, from 0.
    Discrete,
    /// Rectified flow: sigma is time itself, shifted towards noise by `e^mu` where there is a `mu`. Its table has 10,000 levels.
    Flow {
        /// The shift's logarithm; `None` leaves time as it is.
        mu: Option<f64>,
    },
}

const FLOW_LEVELS: usize = 10_000; // comfy/model_sampling.py ModelSamplingFlux: timesteps

/// `sqrt((1 - a) / a)`, a the product of all `1 - beta` so far; the root of beta rises evenly (Stable Diffusion's
/// v1-inference.yaml: linear_start 0.00085, linear_end 0.012, timesteps 1000; ldm make_beta_schedule `linear`).
static DISCRETE: LazyLock<Vec<f64>> = LazyLock::new(|| {
    const LEVELS: usize = 1000;
    let [first, last] = [0.00085f64, 0.012].map(f64::sqrt);
    let root = |i| first + (last - first) * i as f64 / (LEVELS - 1) as f64;
    let kept = (0..LEVELS).scan(1.0, |kept, i| {
        *kept *= 1.0 - f64::powi(root(i), 2);
        Some(*kept)
    });
    kept.map(|kept| ((1.0 - kept) / kept).sqrt()).collect()
});

impl SigmaSpace {
    /// Its name in errors and lists.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Flow { .. } => "flow",
        }
    }

    /// The noise level at a time: 0 (data) to 1 (noise) for flow, 0 to 999 for a table, whose levels are joined by
    /// straight lines in log sigma (k-diffusion `DiscreteSchedule.t_to_sigma`, commit 4601bf0).
    ///
    /// Flow: `e^mu / (e^mu + 1/t - 1)`, flux/sampling.py `time_shift`, 802fb47.
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            Self::Flow { mu: None } => t,
            Self::Flow { mu: Some(mu) } => mu.exp() / (mu.exp() + (1.0 / t - 1.0)),
            Self::Discrete => {
                let t = t.clamp(0.0, (DISCRETE.len() - 1) as f64);
                let (below, above) = (DISCRETE[t.floor() as usize].ln(), DISCRETE[t.ceil() as usize].ln());
                (below + (above - below) * t.fract()).exp()
            }
        }
    }

    /// The times of the table's last level and its first.
    ///
    /// A flow's are its levels themselves, as ComfyUI has it (comfy/model_sampling.py `ModelSamplingFlux.timestep`, v0.3.64); what is
    /// spaced between them is then shifted a second time.
    pub(crate) fn times(&self) -> (f64, f64) {
        match self {
            Self::Flow { .. } => self.ends(),
            Self::Discrete => ((DISCRETE.len() - 1) as f64, 0.0),
        }
    }

    /// How many levels the table has.
    pub(crate) fn levels(&self) -> usize {
        match self {
            Self::Flow { .. } => FLOW_LEVELS,
            Self::Discrete => DISCRETE.len(),
        }
    }

    /// A level of the table, from 0, the lowest.
    pub(crate) fn level(&self, index: usize) -> f64 {
        match self {
            Self::Flow { .. } => self.sigma((index + 1) as f64 / FLOW_LEVELS as f64),
            Self::Discrete => DISCRETE[index],
        }
    }

    /// The highest level and the lowest.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.level(self.levels() - 1), self.level(0))
    }
}
