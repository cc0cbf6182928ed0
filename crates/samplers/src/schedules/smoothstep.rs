//! Times along the curve `3u² - 2u³`: dense at both ends.
//!
//! Reference: stable-diffusion.cpp `SmoothStepScheduler` (src/runtime/denoiser.hpp, 97d2990). Times that round to one thousandth make
//! one step.

use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("smoothstep", "Smoothstep", levels).about("Times along the curve 3u² - 2u³, dense at both ends.")
}

const LAST: f64 = 999.0;

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let time = |i: usize| {
        let u = 1.0 - i as f64 / steps as f64;
        (u * u * (3.0 - 2.0 * u) * LAST).round()
    };
    let mut times: Vec<f64> = (0..steps).map(time).collect();
    times.dedup();
    times.into_iter().map(|t| space.thousandth(t)).collect()
}
