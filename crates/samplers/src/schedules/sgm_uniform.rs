//! Even steps of the model's time down to its first level, which is left out.
//!
//! Reference: ComfyUI `normal_scheduler` with `sgm` (comfy/samplers.py, v0.3.64), after Stability AI's generative-models.

use super::torch_linspace;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("sgm_uniform", "SGM Uniform", levels)
        .aliases(["SGMUniform"])
        .about("Even steps of the model's time down to its first level, which is left out; on a flow shifted twice, as in ComfyUI. The \
            profiles `forge` and `a1111` mean `sgm_uniform_forge` by the name.")
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (last, first) = space.times();
    torch_linspace(space, last, first, steps + 1).into_iter().take(steps).map(|t| space.rounded_sigma(t)).collect()
}
