//! The model's time at a noise level.

use samplers::SigmaSpace;

/// The table of a discrete space, and how a level between two of its entries is timed.
pub(crate) struct Times {
    log_sigmas: Vec<f64>,
    timing: Timing,
}

/// How a level is timed that is no entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// As the nearest entry in log sigma (ComfyUI comfy/model_sampling.py `ModelSamplingDiscrete.timestep`, v0.3.64; Forge
    /// backend/modules/k_prediction.py `Prediction.timestep`, dfdcbab).
    Nearest,
    /// Between two entries along a straight line of log sigma (k-diffusion `DiscreteSchedule.sigma_to_t` with `quantize=False`, 4601bf0).
    Between,
}

const LEVELS: usize = 1000;

impl Times {
    /// The levels of a space of 1000.
    pub(crate) fn of(space: &SigmaSpace, timing: Timing) -> Self {
        let log = |t: usize| match (space.sigma(t as f64), timing) {
            (sigma, Timing::Nearest) => log_in_f32(sigma as f32),
            (sigma, Timing::Between) => sigma.ln(),
        };
        Self { log_sigmas: (0..LEVELS).map(log).collect(), timing }
    }

    /// 0 to 999.
    pub(crate) fn at(&self, sigma: f32) -> f32 {
        let log_sigma = match self.timing {
            Timing::Nearest => log_in_f32(sigma),
            Timing::Between => f64::from(sigma).ln(),
        };
        let above = self.log_sigmas.partition_point(|&level| level <= log_sigma).clamp(1, LEVELS - 1);
        let [low, high] = [above - 1, above].map(|i| self.log_sigmas[i]);
        match self.timing {
            Timing::Nearest => {
                let [to_low, to_high] = [low, high].map(|entry| (log_sigma - entry).abs() as f32);
                // Halfway it is the lower one, as the first of the nearest.
                (above - usize::from(to_low <= to_high)) as f32
            }
            Timing::Between => ((above - 1) as f64 + ((log_sigma - low) / (high - low)).clamp(0.0, 1.0)) as f32,
        }
    }
}

/// As the engines take it: even steps of time may lie halfway between two entries, and then its rounding decides.
fn log_in_f32(sigma: f32) -> f64 {
    f64::from(f64::from(sigma).ln() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_table_is_timed_as_itself_and_what_lies_beyond_as_its_ends() {
        for space in [SigmaSpace::Discrete, SigmaSpace::ZeroSnr] {
            for timing in [Timing::Nearest, Timing::Between] {
                let times = Times::of(&space, timing);
                for t in [0, 1, 500, 998, 999] {
                    let found = times.at(space.sigma(t as f64) as f32);
                    assert!((found - t as f32).abs() < 1e-2, "{space:?} {timing:?} {t} {found}");
                }
                assert_eq!([times.at(1e-9), times.at(1e9)], [0.0, 999.0]);
            }
        }
    }

    #[test]
    fn a_level_between_two_entries_is_timed_as_the_nearest_or_by_its_share() {
        let sigma = |t| SigmaSpace::Discrete.sigma(t) as f32;
        let nearest = Times::of(&SigmaSpace::Discrete, Timing::Nearest);
        assert_eq!([400.3, 400.7].map(|t| nearest.at(sigma(t))), [400.0, 401.0]);
        let between = Times::of(&SigmaSpace::Discrete, Timing::Between);
        assert!((between.at(sigma(400.3)) - 400.3).abs() < 1e-3);
    }
}
