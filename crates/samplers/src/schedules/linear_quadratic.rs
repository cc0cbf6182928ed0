//! Half of the steps over the first fortieth of the noise in even steps, the others along a parabola.
//!
//! Reference: ComfyUI `linear_quadratic_schedule` (comfy/samplers.py, v0.3.64), after Mochi's.

use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("linear_quadratic", "Linear Quadratic", levels)
        .about("Half of the steps over the first fortieth of the noise, the others along a parabola.")
}

const THRESHOLD: f64 = 0.025; // ComfyUI linear_quadratic_schedule: threshold_noise

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (top, _) = space.ends();
    let straight = steps / 2;
    if straight == 0 {
        return vec![top];
    }
    let slope = THRESHOLD / straight as f64;
    // The parabola goes on from the line with the same slope and ends in 1.
    let curved = (steps - straight) as f64;
    let bend = (1.0 - slope * steps as f64) / curved.powi(2);
    let removed = |i: usize| slope * i as f64 + bend * (i.saturating_sub(straight) as f64).powi(2);
    (0..steps).map(|i| top * (1.0 - removed(i))).collect()
}
