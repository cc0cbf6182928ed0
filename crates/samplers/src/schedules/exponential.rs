//! Even steps of log sigma.
//!
//! Reference: k-diffusion `get_sigmas_exponential`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, torch_linspace};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("exponential", "Exponential", levels)
        .about("Even steps of log sigma.")
        .params([SIGMA_MIN.param(), SIGMA_MAX.param()])
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    torch_linspace(space, last.ln(), first.ln(), steps).into_iter().map(f64::exp).collect()
}
