//! Evenly strided picks from the model's table of noise levels, the largest first.
//!
//! Reference: ComfyUI `simple_scheduler` (comfy/samplers.py, v0.3.64). A number of steps that does not divide the table picks
//! slightly other levels than an even spacing of time would; the division is exact here, where `int(x * ss)` there may
//! fall one short.

use crate::{Options, Schedule, SigmaSpace, schedule::SIMPLE};

/// Evenly strided picks from the model's table.
pub fn schedule() -> Schedule {
    Schedule::of(SIMPLE, "Simple", levels).about("Evenly strided picks from the model's table.")
}

pub(super) fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let table = space.levels();
    (0..steps).map(|i| space.level(table - 1 - i * table / steps)).collect()
}
