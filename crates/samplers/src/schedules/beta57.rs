//! `beta` with a distribution that leans towards low levels.
//!
//! Reference: RES4LYF `beta57` (sigmas.py `get_sigmas`): ComfyUI's `beta_scheduler` with alpha 0.5 and beta 0.7.

use super::beta::at_quantiles;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) static SCHEDULE: Schedule = Schedule {
    id: "beta57",
    label: "Beta 57",
    about: "`beta` with an alpha of 0.5 and a beta of 0.7.",
    levels,
    ..Schedule::PLAIN
};

const SHAPE: [f64; 2] = [0.5, 0.7];

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    at_quantiles(space, steps, SHAPE)
}
