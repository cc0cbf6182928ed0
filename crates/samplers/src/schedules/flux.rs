//! The schedule of Black Forest Labs' own sampler: evenly spaced times, shifted by the picture's size.
//!
//! Reference: flux/sampling.py `get_schedule`, 802fb47; the shift itself is [`SigmaSpace::sigma`].

use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("flux", "Flux", levels)
        .aliases(["bfl"])
        .about("Evenly spaced times, shifted by the picture's size as Black Forest Labs have it.")
        .spaces(Spaces::Flow)
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    (0..steps).map(|i| space.sigma(1.0 - i as f64 / steps as f64)).collect()
}

/// The shift's logarithm for a picture of so many image tokens (a token is 16 × 16 pixels): a line through
/// (256, 0.5) and (4096, 1.15).
pub fn mu(image_tokens: usize) -> f64 {
    const BASE: (f64, f64) = (256.0, 0.5); // flux/sampling.py get_schedule: base_shift
    const MAX: (f64, f64) = (4096.0, 1.15); // flux/sampling.py get_schedule: max_shift
    let slope = (MAX.1 - BASE.1) / (MAX.0 - BASE.0);
    slope * image_tokens as f64 + (BASE.1 - slope * BASE.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_is_that_of_the_published_table() {
        for (tokens, expected) in
            [(1024, 0.63), (2304, 0.8467), (4032, 1.1392), (4096, 1.15), (4080, 1.1473), (9216, 2.0167), (16_384, 3.23)]
        {
            assert!((mu(tokens) - expected).abs() < 5.1e-5, "{tokens}: {}", mu(tokens));
        }
    }
}
