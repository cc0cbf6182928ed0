//! Even steps of the seventh root of sigma.
//!
//! Reference: Karras et al. 2022, equation 5; k-diffusion `get_sigmas_karras`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace, torch_linspace};
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
    between(space, last, first, steps, options.get(&RHO_PARAM))
}

/// So many levels from one to another, rounded as torch rounds them in f32 where [`torch_linspace`] does.
pub(crate) fn between(space: &SigmaSpace, first: f64, last: f64, n: usize, rho: f64) -> Vec<f64> {
    let [from, to] = [first, last].map(|end| end.powf(1.0 / rho));
    // Roots that f32 hardly tells apart stay exact.
    let is_coarse = [from, to, from / to].iter().any(|x| !(1e-3..1e3).contains(x));
    if is_coarse || !space.is_table() {
        return linspace(from, to, n).map(|root| root.powf(rho)).collect();
    }
    let (start, span) = (from as f32, (to - from) as f32);
    let shares = torch_linspace(space, 0.0, 1.0, n).into_iter();
    shares.map(|share| f64::from(start + share as f32 * span).powf(rho)).collect()
}
