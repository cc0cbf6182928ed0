//! `sgm_uniform` as Forge has it on a flow: even steps of sigma, without the lowest.
//!
//! Reference: as [`super::normal_forge`].

use super::{SIGMA_MAX, SIGMA_MIN, normal_forge};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("sgm_uniform_forge", "SGM Uniform (Forge)", levels)
        .about("`sgm_uniform`, but even steps of sigma on a flow, and between levels that can be set.")
        .params([SIGMA_MIN.param(), SIGMA_MAX.param()])
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let mut levels = normal_forge::levels(space, steps + 1, options);
    levels.truncate(steps);
    levels
}
