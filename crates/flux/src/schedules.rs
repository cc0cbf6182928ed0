//! How Black Forest Labs space the noise levels of their models.
//!
//! References: flux/sampling.py `get_schedule`, 802fb47; flux2/sampling.py `get_schedule`, `compute_empirical_mu` (Black Forest Labs), as read
//! through stable-diffusion.cpp `Flux2Scheduler` (src/runtime/denoiser.hpp, 97d2990). The shift itself is [`SigmaSpace::sigma`].

use diffusion_engine::Catalog;
use samplers::{Error, Schedule, SigmaSpace, Spaces};

use crate::{knobs, shift::Line};

/// A catalog with what this family adds: its schedules, its keys, and the word by which infotexts know its models.
///
/// # Errors
/// [`Error::TakenName`] where an entry of the catalog has a name of one of them.
pub fn register(catalog: Catalog) -> Result<Catalog, Error> {
    schedules().into_iter().try_fold(catalog.with_own_scale("flux").with_knobs(knobs()), Catalog::with_schedule)
}

/// The schedules of this family: `flux` and `flux2`.
pub fn schedules() -> Vec<Schedule> {
    vec![flux(), flux2()]
}

fn flux() -> Schedule {
    Schedule::new("flux", "Flux", |space, steps, _| Ok(even_times(space, steps)))
        .aliases(["bfl"])
        .about("Evenly spaced times, shifted by the picture's size as Black Forest Labs have it.")
        .spaces(Spaces::Flow)
}

fn flux2() -> Schedule {
    Schedule::new("flux2", "Flux.2", |space, steps, _| {
        let &SigmaSpace::Flow { tokens, .. } = space else { return Ok(Vec::new()) };
        Ok(even_times(&SigmaSpace::Flow { shift: Some(mu_of_flux2(tokens, steps).exp()), tokens }, steps))
    })
    .about(
        "Evenly spaced times, shifted by the picture's size and the number of steps as Black Forest Labs have it for Flux.2.",
    )
    .spaces(Spaces::Flow)
}

fn even_times(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    (0..steps).map(|i| space.sigma(1.0 - i as f64 / steps as f64)).collect()
}

/// The shift's logarithm for a picture of so many image tokens (a token is 16 × 16 pixels): a line through
/// (256, 0.5) and (4096, 1.15).
pub fn mu(image_tokens: usize) -> f64 {
    Line::MAKERS.at(image_tokens)
}

/// A line through the shifts that were found for 10 and 200 steps, each a line over the picture's tokens; above 4300 tokens
/// that of 200 steps.
fn mu_of_flux2(tokens: usize, steps: usize) -> f64 {
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

    #[test]
    fn the_shift_of_flux_is_that_of_the_published_table() {
        for (tokens, expected) in
            [(1024, 0.63), (2304, 0.8467), (4032, 1.1392), (4096, 1.15), (4080, 1.1473), (9216, 2.0167), (16_384, 3.23)]
        {
            assert!((mu(tokens) - expected).abs() < 5.1e-5, "{tokens}: {}", mu(tokens));
        }
    }

    /// 1024 × 1024 pixels, computed apart from both this engine and its goldens.
    #[test]
    fn the_shift_of_flux2_is_that_of_the_published_table() {
        for (steps, expected) in [(4, 2.2912), (20, 2.198), (50, 2.0234)] {
            assert!((mu_of_flux2(4096, steps) - expected).abs() < 1e-4, "{}", mu_of_flux2(4096, steps));
        }
    }
}
