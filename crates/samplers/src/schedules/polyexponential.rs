//! Steps of log sigma along a power; with the power 1 the same as `exponential`.
//!
//! Reference: k-diffusion `get_sigmas_polyexponential`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{Options, Param, Schedule, SigmaSpace, options::number};

pub(crate) static SCHEDULE: Schedule = Schedule {
    id: "polyexponential",
    label: "Polyexponential",
    aliases: &[],
    about: "Steps of log sigma along a power.",
    params: &[&RHO, &SIGMA_MIN, &SIGMA_MAX],
    levels,
    ..Schedule::PLAIN
};

/// k-diffusion get_sigmas_polyexponential.
static RHO: Param = number("rho", "Schedule rho", [1.0, 0.1, 10.0], "The power; 1 is the same as `exponential`.");

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let rho = options.number(&RHO);
    let (last, first) = ends(space, options);
    linspace(1.0, 0.0, steps).map(|t| (first.ln() + (last / first).ln() * t.powf(rho)).exp()).collect()
}
