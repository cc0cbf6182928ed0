//! Levels that were optimised for ten steps of a model, interpolated for other numbers.
//!
//! Reference: Sabour et al. 2024 (Align Your Steps, arXiv 2404.14507), with the levels and the interpolation of ComfyUI
//! `AlignYourStepsScheduler` (comfy_extras/nodes_align_your_steps.py, v0.3.64), as in stable-diffusion.cpp.

use super::log_linear;
use crate::{Options, Schedule, Setting, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps", "Align Your Steps", levels)
        .aliases(["ays"])
        .about(
            "Levels that were optimised for ten steps of a model, interpolated for other numbers. Forge means \
            `align_your_steps_forge` by the name, and so do the profiles `forge` and `a1111`.",
        )
        .spaces(Spaces::Discrete)
        .params([model().param()])
}

fn model() -> Setting<usize> {
    Setting::choice(
        "ays_model",
        "AYS model",
        ["sd15", "sdxl", "svd"],
        "The model that the levels were optimised for: that of the run unless it is set.",
    )
}

const TABLES: [[f64; 11]; 3] = [
    [
        14.6146412293,
        6.4745760956,
        3.8636745985,
        2.6946151520,
        1.8841921177,
        1.3943805092,
        0.9642583904,
        0.6523686016,
        0.3977456272,
        0.1515232662,
        0.0291671582,
    ],
    [
        14.6146412293,
        6.3184485287,
        3.7681790315,
        2.1811480769,
        1.3405244945,
        0.8620721141,
        0.5550693289,
        0.3798540708,
        0.2332364134,
        0.1114188177,
        0.0291671582,
    ],
    [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002],
];

fn levels(_: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    interpolated(options.get(&model()), steps)
}

/// The levels of a model of [`model`]'s.
pub(super) fn interpolated(model: usize, steps: usize) -> Vec<f64> {
    // The last of them is replaced by 0.
    let mut levels = log_linear(&TABLES[model], steps + 1);
    levels.truncate(steps);
    levels
}
