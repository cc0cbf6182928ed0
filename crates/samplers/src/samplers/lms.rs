//! Linear multistep: the slopes of up to four steps, joined by a polynomial and integrated over the next.
//!
//! Reference: k-diffusion `sample_lms` and `linear_multistep_coeff`, commit 4601bf0 (Adams-Bashforth over uneven steps).

use core_tensor::Latent;

use super::euler::slope;
use crate::{
    Denoiser, Error, Noise, Sampler, Setting, Step, Stepper, interpolation::basis, options::whole,
    past_slopes::PastSlopes,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("lms", "LMS", |start| Ok(Box::new(Lms { slopes: PastSlopes::new(start.get(&ORDER)) })))
        .aliases(["k_lms", "LMSDiscrete", "LMSDiscreteScheduler"])
        .about("Adams-Bashforth over the last slopes, with weights for the steps as they are.")
        .params([ORDER.param()])
}

/// k-diffusion sample_lms.
static ORDER: Setting<usize> = whole("order", "Order", [4, 1, 4], "How many slopes count.");

#[derive(Clone)]
struct Lms {
    slopes: PastSlopes,
}

impl Stepper for Lms {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        self.slopes.push(slope(x.0.clone(), denoised.0, at.sigma()));
        let levels = self.slopes.levels(at);
        Ok(self.slopes.moved(x, (0..levels.len()).map(|j| integral(&levels, j, f64::from(at.sigma_next())))))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// The integral, from `levels[0]` to `end`, of the polynomial that is 1 at `levels[j]` and 0 at the others.
///
/// Two Gauss points are exact up to the third degree, which is what four levels make at most.
fn integral(levels: &[f64], j: usize, end: f64) -> f64 {
    let (middle, half) = ((levels[0] + end) / 2.0, (end - levels[0]) / 2.0);
    let offset = half / 3f64.sqrt();
    half * (basis(levels, j, middle - offset) + basis(levels, j, middle + offset))
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
