//! Picks from the fifty times that latent consistency models are distilled on.
//!
//! Reference: Luo et al. 2023 (Latent Consistency Models, arXiv 2310.04378); stable-diffusion.cpp `LCMScheduler` (src/runtime/denoiser.hpp,
//! 97d2990). More than fifty steps make fifty.

use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("lcm", "LCM", levels)
        .about("Picks from the fifty times that latent consistency models are distilled on.")
}

const ORIGINAL: usize = 50;
const STRIDE: usize = 1000 / ORIGINAL;

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let mut picks: Vec<usize> = (0..steps).map(|i| i * ORIGINAL / steps).collect();
    picks.dedup();
    picks.into_iter().map(|pick| space.thousandth(((ORIGINAL - pick) * STRIDE - 1) as f64)).collect()
}
