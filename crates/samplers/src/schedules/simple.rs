//! Evenly strided picks from the model's table of noise levels, the largest first.
//!
//! References: ComfyUI `simple_scheduler` (comfy/samplers.py, v0.3.64) and Forge's (modules/sd_schedulers.py, dfdcbab). A number of steps
//! that does not divide the table picks slightly other levels than an even spacing of time would, and for some numbers, such as 38, the
//! stride is rounded so that a pick falls one short.

use crate::{Options, Schedule, SigmaSpace, schedule::SIMPLE};

/// Evenly strided picks from the model's table.
pub fn schedule() -> Schedule {
    Schedule::of(SIMPLE, "Simple", levels).about("Evenly strided picks from the model's table.")
}

pub(super) fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let table = space.levels();
    let stride = table as f64 / steps as f64;
    let mut picks: Vec<usize> = (0..steps).map(|i| table - 1 - (i as f64 * stride) as usize).collect();
    // A table of fewer levels than steps makes no more steps than it has levels.
    picks.dedup();
    picks.into_iter().map(|pick| space.level(pick)).collect()
}
