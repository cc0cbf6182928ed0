//! Levels of the model's table at the quantiles of a beta distribution: dense at both ends.
//!
//! Reference: Lee et al. 2024 (Beta Sampling is All You Need, arXiv 2407.12173); ComfyUI `beta_scheduler` (comfy/samplers.py,
//! v0.3.64). Quantiles that fall on one level make one step.

use puruspe::invbetai;

use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "beta", label: "Beta", aliases: &[], spaces: Spaces::All, levels };

/// Both parameters of the distribution (ComfyUI beta_scheduler: alpha, beta).
const SHAPE: f64 = 0.6;

/// The value below which a share `p` of the distribution lies. Exact in the middle, where ComfyUI's rounding meets a tie.
pub(super) fn quantile(p: f64) -> f64 {
    if p == 0.5 { 0.5 } else { invbetai(p, SHAPE, SHAPE) }
}

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    let top = (space.levels() - 1) as f64;
    let place = |i| quantile(1.0 - i as f64 / steps as f64) * top;
    let mut picks: Vec<usize> = (0..steps).map(|i| place(i).round_ties_even() as usize).collect();
    picks.dedup();
    picks.into_iter().map(|i| space.level(i)).collect()
}
