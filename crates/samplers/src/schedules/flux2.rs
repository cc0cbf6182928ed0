//! The schedule of Flux.2: evenly spaced times, shifted by the picture's size and the number of steps.
//!
//! Reference: flux2/sampling.py `get_schedule`, `compute_empirical_mu` (Black Forest Labs), as read through stable-diffusion.cpp
//! `Flux2Scheduler` (src/runtime/denoiser.hpp, 97d2990).

use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("flux2", "Flux.2", levels)
        .about("Evenly spaced times, shifted by the picture's size and the number of steps as Black Forest Labs have it for Flux.2.")
        .spaces(Spaces::Flow)
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let &SigmaSpace::Flow { tokens, .. } = space else { return Vec::new() };
    let shifted = SigmaSpace::Flow { mu: Some(mu(tokens, steps)), tokens };
    (0..steps).map(|i| shifted.sigma(1.0 - i as f64 / steps as f64)).collect()
}

/// A line through the shifts that were found for 10 and 200 steps, each a line over the picture's tokens; above 4300 tokens
/// that of 200 steps.
fn mu(tokens: usize, steps: usize) -> f64 {
    const LARGE: usize = 4300;
    let tokens_of = |slope: f64, base: f64| slope * tokens as f64 + base;
    let (ten, two_hundred) = (tokens_of(8.738_095_24e-5, 1.898_333_33), tokens_of(0.000_169_27, 0.456_666_66));
    if tokens > LARGE {
        return two_hundred;
    }
    let slope = (two_hundred - ten) / 190.0;
    two_hundred + slope * (steps as f64 - 200.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1024 × 1024 pixels, computed apart from both this engine and its goldens.
    #[test]
    fn the_shift_is_that_of_the_published_table() {
        for (steps, expected) in [(4, 2.2912), (20, 2.198), (50, 2.0234)] {
            assert!((mu(4096, steps) - expected).abs() < 1e-4, "{}", mu(4096, steps));
        }
    }
}
