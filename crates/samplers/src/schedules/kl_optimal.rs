//! Even steps of the arc tangent of sigma.
//!
//! Reference: Sabour et al. 2024 (Align Your Steps), theorem 3.1; ComfyUI `kl_optimal_scheduler` (comfy/samplers.py, v0.3.64).

use super::linspace;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("kl_optimal", "KL Optimal", levels)
        .about("Even steps of the arc tangent of sigma. Forge means `kl_optimal_forge` by the name, and so do the profiles `forge` and `a1111`.")
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (last, first) = space.ends();
    linspace(last.atan(), first.atan(), steps).map(f64::tan).collect()
}
