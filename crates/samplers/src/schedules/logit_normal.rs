//! Levels at the quantiles of a logit-normal distribution that moves with the picture's size.
//!
//! Reference: stable-diffusion.cpp `LogitNormalScheduler` (src/runtime/denoiser.hpp, 97d2990), after Ideogram's.

use std::f64::consts::SQRT_2;

use puruspe::inverfc;

use crate::{Options, Schedule, Setting, SigmaSpace, Spaces, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("logit_normal", "Logit Normal", levels)
        .about("Levels at the quantiles of a logit-normal distribution that moves with the picture's size.")
        .spaces(Spaces::Flow)
        .params([MU.param(), STD.param()])
}

// stable-diffusion.cpp LogitNormalScheduler has both defaults.
static MU: Setting<f64> =
    number("mu", "Logit mu", [0.0, -10.0, 10.0], "The middle, as a logit, for a picture of 512 × 512.");
static STD: Setting<f64> = number("std", "Logit std", [1.75, 0.01, 10.0], "The width, as a logit.");

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    /// Tokens of 512 × 512 pixels.
    const KNOWN: f64 = 1024.0;
    /// Where the ends of the distribution are cut off, in log signal-to-noise ratio.
    const LOG_SNR: [f64; 2] = [-15.0, 18.0];
    let &SigmaSpace::Flow { tokens, .. } = space else { return Vec::new() };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let [lowest, highest] = LOG_SNR.map(|ratio| sigmoid(ratio / 2.0));
    let mu = options.get(&MU) + 0.5 * (tokens.max(1) as f64 / KNOWN).ln();
    let level = |i: usize| {
        let quantile = SQRT_2 * inverfc(2.0 * i as f64 / steps as f64);
        sigmoid(mu + options.get(&STD) * quantile).clamp(lowest, highest)
    };
    let mut levels: Vec<f64> = (0..steps).map(level).collect();
    levels.dedup();
    levels
}
