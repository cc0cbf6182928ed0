//! Even steps of the seventh root of sigma.
//!
//! Reference: Karras et al. 2022, equation 5; k-diffusion `get_sigmas_karras`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{Options, Schedule, Setting, SigmaSpace, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("karras", "Karras", levels).about("Even steps of a root of sigma.").params([
        RHO_PARAM.param(),
        SIGMA_MIN.param(),
        SIGMA_MAX.param(),
    ])
}

pub(crate) const RHO: f64 = 7.0; // k-diffusion get_sigmas_karras
static RHO_PARAM: Setting<f64> =
    number("rho", "Schedule rho", [RHO, 0.1, 100.0], "The root; more of it makes more steps at low levels.");

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    between(last, first, steps, options.get(&RHO_PARAM)).collect()
}

/// So many levels from one to another.
pub(crate) fn between(first: f64, last: f64, n: usize, rho: f64) -> impl Iterator<Item = f64> {
    linspace(first.powf(1.0 / rho), last.powf(1.0 / rho), n).map(move |root| root.powf(rho))
}
