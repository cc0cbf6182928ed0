use std::sync::LazyLock;

/// How the data turn into noise as sigma grows; the ancestral and stochastic samplers need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// `x = data + sigma · noise`: Stable Diffusion 1.x, 2.x and XL, in k-diffusion's scaling.
    Diffusion,
    /// `x = (1 - sigma) · data + sigma · noise`: rectified flow.
    Flow,
}

/// The noise levels that a model was trained on: a table, and a function of time between its entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SigmaSpace {
    /// The table of Stable Diffusion 1.x, 2.x and XL: 1000 levels, 0.0292 to 14.61; time is the place in the table, from 0.
    Discrete,
    /// The same table rescaled so that its last level has no signal left: v-prediction models trained with zero terminal
    /// signal-to-noise ratio. Its last level is 4518.
    ZeroSnr,
    /// Every twentieth level of `Discrete`, or of `ZeroSnr`, up to the last: the fifty that latent consistency models are distilled on; time
    /// is the place among them, from 0.
    Distilled {
        /// Whether it is of `ZeroSnr`.
        zero_snr: bool,
    },
    /// 1000 levels in even steps of log sigma, as EDM and its relatives have it; time is the place among them, from 0.
    Edm {
        /// The lowest level.
        min: f64,
        /// The highest level.
        max: f64,
    },
    /// Rectified flow: sigma is time itself, shifted towards noise where there is a `shift`. Its table has 10,000 levels.
    Flow {
        /// The factor by which noise over data is larger than without a shift, above 0; `None` leaves time as it is.
        shift: Option<f64>,
        /// The picture's tokens, of 16 × 16 pixels each, for schedules that go by them.
        tokens: usize,
    },
}

const TABLE_LEVELS: usize = 1000;
const DISTILLED_LEVELS: usize = 50; // Forge modules/sd_samplers_lcm.py LCMCompVisDenoiser: original_timesteps
const DISTILLED_STRIDE: usize = TABLE_LEVELS / DISTILLED_LEVELS;
const FLOW_LEVELS: usize = 10_000; // comfy/model_sampling.py ModelSamplingFlux: timesteps

/// The share of the data in each level's variance: the product of all `1 - beta` so far, where the root of beta rises evenly
/// (Stable Diffusion's v1-inference.yaml: linear_start 0.00085, linear_end 0.012, timesteps 1000; ldm make_beta_schedule `linear`).
fn kept() -> impl Iterator<Item = f64> {
    let [first, last] = [0.00085f64, 0.012].map(f64::sqrt);
    let root = move |i| first + (last - first) * i as f64 / (TABLE_LEVELS - 1) as f64;
    (0..TABLE_LEVELS).scan(1.0, move |kept, i| {
        *kept *= 1.0 - f64::powi(root(i), 2);
        Some(*kept)
    })
}

/// Noise over data, `sqrt((1 - kept) / kept)`.
fn ratio(kept: f64) -> f64 {
    ((1.0 - kept) / kept).sqrt()
}

static DISCRETE: LazyLock<Vec<f64>> = LazyLock::new(|| kept().map(ratio).collect());

/// The root of what is kept is moved and stretched so that nothing is kept of the last level and the first stays (Lin et al.
/// 2023, algorithm 1); the last is then taken for 4.9e-8, as it must be finite (ComfyUI comfy/model_sampling.py
/// `rescale_zero_terminal_snr_sigmas`, v0.3.64).
static ZERO_SNR: LazyLock<Vec<f64>> = LazyLock::new(|| {
    const LAST: f64 = 4.897_345_189_085_343_5e-8;
    let roots: Vec<f64> = kept().map(f64::sqrt).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let rescaled = roots.iter().map(|root| ((root - last) * first / (first - last)).powi(2));
    rescaled.map(|kept| ratio(if kept > 0.0 { kept } else { LAST })).collect()
});

impl SigmaSpace {
    /// Its name in errors and lists.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::ZeroSnr => "zero_snr",
            Self::Distilled { .. } => "distilled",
            Self::Edm { .. } => "edm",
            Self::Flow { .. } => "flow",
        }
    }

    /// How its data turn into noise.
    pub fn process(&self) -> Process {
        match self {
            Self::Discrete | Self::ZeroSnr | Self::Distilled { .. } | Self::Edm { .. } => Process::Diffusion,
            Self::Flow { .. } => Process::Flow,
        }
    }

    /// The noise level at a time: 0 (data) to 1 (noise) for flow, 0 to 999 for a table, whose levels are joined by
    /// straight lines in log sigma (k-diffusion `DiscreteSchedule.t_to_sigma`, commit 4601bf0).
    ///
    /// Flow: `shift / (shift + 1/t - 1)` (Esser et al. 2024, arXiv 2403.03206, equation 23).
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            Self::Flow { shift: None, .. } => t,
            Self::Flow { shift: Some(shift), .. } => shift / (shift + (1.0 / t - 1.0)),
            Self::Edm { min, max } => {
                let t = t.clamp(0.0, (TABLE_LEVELS - 1) as f64) / (TABLE_LEVELS - 1) as f64;
                (min.ln() + (max / min).ln() * t).exp()
            }
            Self::Discrete | Self::ZeroSnr | Self::Distilled { .. } => {
                let t = t.clamp(0.0, (self.levels() - 1) as f64);
                let (below, above) = (self.level(t.floor() as usize).ln(), self.level(t.ceil() as usize).ln());
                (below + (above - below) * t.fract()).exp()
            }
        }
    }

    /// Whether its levels are a table, which the engines hold and interpolate in f32.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Discrete | Self::ZeroSnr | Self::Distilled { .. })
    }

    /// The same, rounded on a table as torch rounds it in f32 (ComfyUI and Forge `sigma` of a model's levels).
    pub(crate) fn rounded_sigma(&self, t: f64) -> f64 {
        if !self.is_table() {
            return self.sigma(t);
        }
        let t = t.clamp(0.0, (self.levels() - 1) as f64) as f32;
        let log = |place: f32| f64::from(self.level(place as usize) as f32).ln() as f32;
        f64::from((1.0 - t.fract()) * log(t.floor()) + t.fract() * log(t.ceil())).exp()
    }

    /// The noise level at a thousandth of the model's time, from 0: as a table of 1000 has it.
    pub(crate) fn thousandth(&self, t: f64) -> f64 {
        match self {
            Self::Flow { .. } => self.sigma((t + 1.0) / TABLE_LEVELS as f64),
            _ => self.whole().sigma(t),
        }
    }

    /// The space itself, or the whole table of one that knows but some of its levels.
    pub(crate) fn whole(self) -> Self {
        match self {
            Self::Distilled { zero_snr: true } => Self::ZeroSnr,
            Self::Distilled { zero_snr: false } => Self::Discrete,
            other => other,
        }
    }

    /// The fifty levels of a table that latent consistency models are distilled on; of another space the space itself.
    pub(crate) fn distilled(self) -> Self {
        match self {
            Self::Discrete => Self::Distilled { zero_snr: false },
            Self::ZeroSnr => Self::Distilled { zero_snr: true },
            other => other,
        }
    }

    /// The noise level when a share of the run is done, in the model's time (ComfyUI comfy/model_sampling.py `percent_to_sigma`,
    /// v0.3.64).
    pub fn after(&self, share: f64) -> f64 {
        match self {
            Self::Flow { .. } => self.sigma(1.0 - share),
            _ => self.sigma((1.0 - share) * (self.levels() - 1) as f64),
        }
    }

    /// The times of the table's last level and its first.
    ///
    /// A flow's are its levels themselves, as ComfyUI has it (comfy/model_sampling.py `ModelSamplingFlux.timestep`, v0.3.64); what is
    /// spaced between them is then shifted a second time.
    pub(crate) fn times(&self) -> (f64, f64) {
        match self {
            Self::Flow { .. } => self.ends(),
            _ => ((self.levels() - 1) as f64, 0.0),
        }
    }

    /// How many levels the table has.
    pub(crate) fn levels(&self) -> usize {
        match self {
            Self::Flow { .. } => FLOW_LEVELS,
            Self::Distilled { .. } => DISTILLED_LEVELS,
            _ => TABLE_LEVELS,
        }
    }

    /// A level of the table, from 0, the lowest.
    pub(crate) fn level(&self, index: usize) -> f64 {
        match self {
            Self::Flow { .. } => self.sigma((index + 1) as f64 / FLOW_LEVELS as f64),
            Self::Discrete => DISCRETE[index],
            Self::ZeroSnr => ZERO_SNR[index],
            Self::Distilled { .. } => self.whole().level((index + 1) * DISTILLED_STRIDE - 1),
            Self::Edm { .. } => self.sigma(index as f64),
        }
    }

    /// The place of the table's level that is nearest in log sigma; of two the lower.
    pub(crate) fn nearest(&self, sigma: f64) -> usize {
        let distance = |i: &usize| (self.level(*i).ln() - sigma.ln()).abs();
        (0..self.levels()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    }

    /// The highest noise level and the lowest above 0.
    pub fn ends(&self) -> (f64, f64) {
        (self.level(self.levels() - 1), self.level(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_terminal_signal_the_table_keeps_its_first_level_and_ends_where_comfyui_has_it() {
        let (plain, rescaled) = (SigmaSpace::Discrete, SigmaSpace::ZeroSnr);
        assert!((plain.level(0) - rescaled.level(0)).abs() < 1e-6);
        assert!((rescaled.level(999) - 4518.76).abs() < 0.01, "{}", rescaled.level(999));
        assert!((1..1000).all(|i| rescaled.level(i) > rescaled.level(i - 1)));
    }

    #[test]
    fn distilled_models_know_every_twentieth_level_of_the_table() {
        for plain in [SigmaSpace::Discrete, SigmaSpace::ZeroSnr] {
            let fifty = plain.distilled();
            assert_eq!((fifty.levels(), fifty.ends()), (50, (plain.level(999), plain.level(19))));
            assert_eq!(fifty.level(7), plain.level(159));
            assert!((fifty.sigma(6.5) - (plain.level(139) * plain.level(159)).sqrt()).abs() < 1e-9);
        }
        let flow = SigmaSpace::Flow { shift: None, tokens: 4096 };
        assert_eq!(flow.distilled(), flow);
    }

    #[test]
    fn a_continuous_space_is_even_in_log_sigma() {
        let space = SigmaSpace::Edm { min: 0.002, max: 80.0 };
        assert!((space.level(0) - 0.002).abs() < 1e-9 && (space.level(999) - 80.0).abs() < 1e-9);
        assert!((space.sigma(499.5) - (0.002f64 * 80.0).sqrt()).abs() < 1e-9);
    }
}
