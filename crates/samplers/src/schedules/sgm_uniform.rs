//! Even steps of the model's time down to its first level, which is left out.
//!
//! Reference: ComfyUI `normal_scheduler` with `sgm` (comfy/samplers.py, v0.3.64), after Stability AI's generative-models.

use super::linspace;
use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "sgm_uniform", label: "SGM Uniform", aliases: &["SGMUniform"], spaces: Spaces::All, levels };

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    let (last, first) = space.times();
    linspace(last, first, steps + 1).take(steps).map(|t| space.sigma(t)).collect()
}
