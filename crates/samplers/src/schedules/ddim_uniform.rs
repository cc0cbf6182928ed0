//! Every so-manieth level of the model's table, counted from its second; the last level is not among them.
//!
//! Reference: ComfyUI `ddim_scheduler` (comfy/samplers.py, v0.3.64). The stride is a whole number, so a number of steps that
//! does not divide the table makes more steps than were asked for.

use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("ddim_uniform", "DDIM", levels)
        .aliases(["ddim"])
        .about("Every so-manieth level of the model's table; the highest is not among them.")
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let stride = (space.levels() / steps).max(1);
    let mut levels: Vec<f64> = (1..space.levels()).step_by(stride).map(|i| space.level(i)).collect();
    levels.reverse();
    levels
}
