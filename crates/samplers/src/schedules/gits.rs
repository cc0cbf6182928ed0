//! Levels that follow how sampling paths bend, found for each number of steps up to 20.
//!
//! Reference: Chen et al. 2024 (On the Trajectory Regularity of ODE-based Diffusion Sampling, arXiv 2405.11326), with the levels of
//! ComfyUI `GITSScheduler` (comfy_extras/nodes_gits.py, v0.3.64).

mod tables;

use super::log_linear;
use crate::{Options, Schedule, Setting, SigmaSpace, Spaces, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("gits", "GITS", levels)
        .aliases(["GITS[coeff=1.2]"])
        .about("Levels that follow how sampling paths bend, found for each number of steps from 2 to 20 and interpolated above.")
        .spaces(Spaces::Discrete)
        .params([COEFFICIENT.param()])
}

/// ComfyUI GITSScheduler: coeff.
static COEFFICIENT: Setting<f64> = number(
    "gits_coeff",
    "GITS coefficient",
    [1.2, 0.8, 1.5],
    "Where the levels gather, in steps of 0.05: the higher it is, the lower they are.",
);

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let of = |steps| tables::levels(options.get(&COEFFICIENT), steps);
    let mut levels = match steps {
        0..2 => vec![space.ends().0],
        2..=tables::MOST => of(steps),
        _ => log_linear(&of(tables::MOST), steps + 1),
    };
    // The last of them is replaced by 0.
    levels.truncate(steps);
    levels
}
