//! Levels of the model's table at the quantiles of a beta distribution: dense at both ends.
//!
//! Reference: Lee et al. 2024 (Beta Sampling is All You Need, arXiv 2407.12173); ComfyUI `beta_scheduler` (comfy/samplers.py,
//! v0.3.64). Quantiles that fall on one level make one step.

use puruspe::invbetai;

use crate::{Options, Schedule, Setting, SigmaSpace, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("beta", "Beta", levels)
        .about("Levels of the model's table at the quantiles of a beta distribution. Forge means `beta_forge` by the name, and so do the \
            profiles `forge` and `a1111`.")
        .params(SHAPE.map(Setting::param))
}

/// ComfyUI beta_scheduler, Forge's options.
static ALPHA: Setting<f64> =
    number("alpha", "Beta schedule alpha", [0.6, 0.01, 10.0], "Less of it makes more steps at low levels.");
static BETA: Setting<f64> =
    number("beta", "Beta schedule beta", [0.6, 0.01, 10.0], "Less of it makes more steps at high levels.");
pub(super) static SHAPE: [&Setting<f64>; 2] = [&ALPHA, &BETA];

/// What the distribution's two numbers are set to.
pub(super) fn shape(options: &Options) -> [f64; 2] {
    SHAPE.map(|param| options.get(param))
}

/// The value below which a share `p` of the distribution lies. Exact in the middle, where ComfyUI's rounding meets a tie.
pub(super) fn quantile(p: f64, [alpha, beta]: [f64; 2]) -> f64 {
    if p == 0.5 && alpha == beta { 0.5 } else { invbetai(p, alpha, beta) }
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    at_quantiles(space, steps, shape(options))
}

/// The table's levels at even steps of the distribution's share.
pub(super) fn at_quantiles(space: &SigmaSpace, steps: usize, shape: [f64; 2]) -> Vec<f64> {
    let top = (space.levels() - 1) as f64;
    let place = |i| quantile(1.0 - i as f64 / steps as f64, shape) * top;
    let mut picks: Vec<usize> = (0..steps).map(|i| place(i).round_ties_even() as usize).collect();
    picks.dedup();
    picks.into_iter().map(|i| space.level(i)).collect()
}
