//! `beta` with a distribution that leans towards low levels.
//!
//! Reference: RES4LYF `beta57` (sigmas.py `get_sigmas`): ComfyUI's `beta_scheduler` with alpha 0.5 and beta 0.7.

use super::beta::at_quantiles;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("beta57", "Beta 57", levels).about("`beta` with an alpha of 0.5 and a beta of 0.7.")
}

const SHAPE: [f64; 2] = [0.5, 0.7];

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    at_quantiles(space, steps, SHAPE)
}
