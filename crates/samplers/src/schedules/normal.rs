//! Even steps of the model's time, from the table's last level down to its first.
//!
//! Reference: ComfyUI `normal_scheduler` (comfy/samplers.py, v0.3.64), which is Forge's `uniform` for Stable Diffusion. For a
//! flow it shifts time twice, see [`SigmaSpace::times`].

use super::torch_linspace;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("normal", "Normal", levels)
        .aliases(["uniform", "discrete"])
        .about("Even steps of the model's time, from the table's last level to its first; on a flow shifted twice, as in ComfyUI. The \
            profiles `forge` and `a1111` mean `normal_forge` by the name.")
}

pub(super) fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (last, first) = space.times();
    torch_linspace(space, last, first, steps).into_iter().map(|t| space.rounded_sigma(t)).collect()
}
