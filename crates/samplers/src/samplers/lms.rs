//! Linear multistep: the slopes of up to four steps, joined by a polynomial and integrated over the next.
//!
//! Reference: k-diffusion `sample_lms` and `linear_multistep_coeff`, commit 4601bf0 (Adams-Bashforth over uneven steps).

use std::collections::VecDeque;

use core_tensor::{Latent, Tensor};

use super::euler::slope;
use crate::{Denoiser, Error, Noise, Param, Sampler, Step, Stepper, options::whole};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "lms",
    label: "LMS",
    aliases: &["k_lms", "LMSDiscreteScheduler"],
    about: "Adams-Bashforth over the last slopes, with weights for the steps as they are.",
    params: &[&ORDER],
    start: |start| Box::new(Lms { order: start.whole(&ORDER), slopes: VecDeque::new() }),
    ..Sampler::PLAIN
};

/// k-diffusion sample_lms.
static ORDER: Param = whole("order", "Order", [4, 1, 4], "How many slopes count.");

struct Lms {
    order: usize,
    /// The newest first.
    slopes: VecDeque<Tensor<4>>,
}

impl Stepper for Lms {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?;
        self.slopes.truncate(self.order - 1);
        self.slopes.push_front(slope(x.0.clone(), denoised.0, at.sigma()));
        let levels: Vec<f64> =
            at.sigmas()[..=at.index()].iter().rev().take(self.slopes.len()).map(|&s| f64::from(s)).collect();
        let weights = (0..levels.len()).map(|j| integral(&levels, j, f64::from(at.sigma_next())));
        Ok(Latent(self.slopes.iter().zip(weights).fold(x.0, |x, (d, weight)| x + d.clone() * weight as f32)))
    }
}

/// The integral, from `levels[0]` to `end`, of the polynomial that is 1 at `levels[j]` and 0 at the others.
///
/// Two Gauss points are exact up to the third degree, which is what four levels make at most.
fn integral(levels: &[f64], j: usize, end: f64) -> f64 {
    let (middle, half) = ((levels[0] + end) / 2.0, (end - levels[0]) / 2.0);
    let basis = |at: f64| -> f64 {
        let others = levels.iter().enumerate().filter(|&(k, _)| k != j);
        others.map(|(_, level)| (at - level) / (levels[j] - level)).product()
    };
    let offset = half / 3f64.sqrt();
    half * (basis(middle - offset) + basis(middle + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_steps_make_the_coefficients_of_adams_and_bashforth() {
        let levels = [1.0, 2.0, 3.0, 4.0];
        let weights = [0, 1, 2, 3].map(|j| -24.0 * integral(&levels, j, 0.0));
        for (found, expected) in weights.into_iter().zip([55.0, -59.0, 37.0, -9.0]) {
            assert!((found - expected).abs() < 1e-9, "{weights:?}");
        }
    }
}
