//! Levels that were optimised for ten steps of a model, the last kept and 0 behind it, as Forge has it.
//!
//! Reference: Sabour et al. 2024 (Align Your Steps, arXiv 2404.14507), with the levels and the interpolation of Forge
//! `get_align_your_steps_sigmas` (modules/sd_schedulers.py, dfdcbab).

use super::log_linear;
use crate::{Options, Schedule, Setting, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_forge", "Align Your Steps (Forge)", levels)
        .aliases(["align_your_steps_11", "Align Your Steps 11"])
        .about("As `align_your_steps`, but with the last level kept and 0 behind it.")
        .spaces(Spaces::Discrete)
        .params([model().param()])
}

pub(super) fn model() -> Setting<usize> {
    Setting::choice(
        "ays_model",
        "AYS model",
        ["sd15", "sdxl"],
        "The model that the levels were optimised for: that of the run unless it is set.",
    )
}

const TABLES: [[f64; 11]; 2] = [
    [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
    [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029],
];

fn levels(_: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    log_linear(&TABLES[options.get(&model())], steps)
}
