//! Steps of log sigma along a power; with the power 1 the same as `exponential`.
//!
//! Reference: k-diffusion `get_sigmas_polyexponential`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, torch_linspace};
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
    let shares = torch_linspace(space, 1.0, 0.0, steps).into_iter().map(|share| share.powf(rho));
    if !space.is_table() {
        return shares.map(|share| (first.ln() + (last / first).ln() * share).exp()).collect();
    }
    let (start, span) = (first.ln() as f32, (last.ln() - first.ln()) as f32);
    shares.map(|share| f64::from(share as f32 * span + start).exp()).collect()
}
