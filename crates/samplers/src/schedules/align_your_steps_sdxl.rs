//! The levels that were optimised for SDXL, whatever the profile.
//!
//! Reference: `AYS SDXL` of the Impact, Inspire and Efficiency node packs, which is ComfyUI's `AlignYourStepsScheduler` for that model.

use super::align_your_steps::interpolated;
use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_sdxl", "Align Your Steps SDXL", levels)
        .aliases(["AYS SDXL"])
        .about("`align_your_steps` with an `ays_model` of sdxl, in every profile.")
        .spaces(Spaces::Discrete)
}

fn levels(_: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    interpolated(1, steps)
}
