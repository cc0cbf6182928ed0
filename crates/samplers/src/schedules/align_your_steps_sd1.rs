//! The levels that were optimised for Stable Diffusion 1, whatever the profile.
//!
//! Reference: `AYS SD1` of the Impact, Inspire and Efficiency node packs, which is ComfyUI's `AlignYourStepsScheduler` for that model.

use super::align_your_steps::interpolated;
use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_sd1", "Align Your Steps SD1", levels)
        .aliases(["AYS SD1", "AYS SD15"])
        .about("`align_your_steps` with an `ays_model` of sd15, in every profile.")
        .spaces(Spaces::Discrete)
}

fn levels(_: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    interpolated(0, steps)
}
