//! Levels at the quantiles of a Laplace distribution of log sigma: dense in the middle.
//!
//! References: Hang et al. 2024 (Improved Noise Schedule for Diffusion Training, arXiv 2407.03297); ComfyUI `get_sigmas_laplace` (v0.3.64).
//! Quantiles beyond the model's ends fall on them and make one level; the final 0, which ComfyUI's list lacks, is added.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{Options, Schedule, Setting, SigmaSpace, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("laplace", "Laplace", levels)
        .about("Levels at the quantiles of a Laplace distribution of log sigma.")
        .params([MU.param(), BETA.param(), SIGMA_MIN.param(), SIGMA_MAX.param()])
}

// ComfyUI get_sigmas_laplace has both defaults.
static MU: Setting<f64> = number("mu", "Laplace mu", [0.0, -10.0, 10.0], "The middle, in log sigma.");
static BETA: Setting<f64> = number("beta", "Laplace beta", [0.5, 0.001, 10.0], "The width.");

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    const ABOVE_ZERO: f64 = 1e-5; // ComfyUI get_sigmas_laplace: epsilon
    let (last, first) = ends(space, options);
    let [mu, beta] = [&MU, &BETA].map(|param| options.get(param));
    let level = |p: f64| {
        let side = 0.5 - p;
        let log = (1.0 - 2.0 * side.abs() + ABOVE_ZERO).ln();
        let sign = if side == 0.0 { 0.0 } else { side.signum() };
        (mu - beta * sign * log).exp().clamp(first, last)
    };
    let mut levels: Vec<f64> = linspace(0.0, 1.0, steps).map(level).collect();
    levels.dedup();
    levels
}
