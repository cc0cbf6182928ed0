//! The levels that were optimised for Stable Video Diffusion, whatever the profile.
//!
//! Reference: `AYS SVD` of the Impact, Inspire and Efficiency node packs, which is ComfyUI's `AlignYourStepsScheduler` for that model.

use super::align_your_steps::interpolated;
use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_svd", "Align Your Steps SVD", levels)
        .aliases(["AYS SVD"])
        .about("`align_your_steps` with an `ays_model` of svd, in every profile.")
        .spaces(Spaces::Discrete)
}

fn levels(_: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    interpolated(2, steps)
}
