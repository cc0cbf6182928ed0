//! Evenly strided picks from the model's table of noise levels, the largest first.
//!
//! Reference: ComfyUI `simple_scheduler` (comfy/samplers.py, v0.3.64). Flux dev has a table of 10,000 levels there,
//! so a number of steps that does not divide it picks slightly other levels than an even spacing of time
//! would; the division is exact here, where `int(x * ss)` there may fall one short from 76 steps on.

use crate::{Schedule, SigmaSpace};

/// Evenly strided picks from the model's table.
pub static SCHEDULE: Schedule = Schedule { id: "simple", label: "Simple", aliases: &[], levels };

const TABLE: usize = 10_000; // comfy/model_sampling.py ModelSamplingFlux: timesteps

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    (0..steps).map(|i| space.sigma((TABLE - i * TABLE / steps) as f64 / TABLE as f64)).collect()
}
