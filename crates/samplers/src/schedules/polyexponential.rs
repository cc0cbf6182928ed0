//! Steps of log sigma along a power; with the power 1 the same as `exponential`.
//!
//! Reference: k-diffusion `get_sigmas_polyexponential`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{Options, Schedule, Setting, SigmaSpace, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("polyexponential", "Polyexponential", levels).about("Steps of log sigma along a power.").params([
        RHO.param(),
        SIGMA_MIN.param(),
        SIGMA_MAX.param(),
    ])
}

/// k-diffusion get_sigmas_polyexponential.
static RHO: Setting<f64> =
    number("rho", "Schedule rho", [1.0, 0.1, 10.0], "The power; 1 is the same as `exponential`.");

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let rho = options.get(&RHO);
    let (last, first) = ends(space, options);
    linspace(1.0, 0.0, steps).map(|t| (first.ln() + (last / first).ln() * t.powf(rho)).exp()).collect()
}
