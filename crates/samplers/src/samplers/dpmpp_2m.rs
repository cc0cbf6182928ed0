//! DPM-Solver++(2M): the denoised latent is carried on along a line through the last two.
//!
//! Reference: k-diffusion `sample_dpmpp_2m`, commit 4601bf0 (Lu et al. 2022b, algorithm 2).

use core_tensor::{Latent, Tensor};

use super::euler::towards;
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, schedules};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2m", "DPM++ 2M", |_| Ok(Box::new(Dpmpp2m { last: None })))
        .aliases(["k_dpmpp_2m", "dpm++2m", "DPM2M", "DPMSolverMultistep", "DPMSolverMultistepScheduler"])
        .about("The denoised latent is carried on along a line through the last two. A1111 up to 1.8 meant `normal` levels by the plain \
            name; here as in later versions `automatic` makes them `karras`.")
        .automatic(schedules::karras::schedule())
}

#[derive(Clone)]
struct Dpmpp2m {
    /// The denoised latent of the step before, and that step's length in log sigma.
    last: Option<(Tensor<4>, f64)>,
}

impl Stepper for Dpmpp2m {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let h = (f64::from(at.sigma()) / f64::from(at.sigma_next())).ln();
        let ahead = match self.last.take() {
            Some((before, h_last)) => {
                let share = (h / (2.0 * h_last)) as f32;
                denoised.0.clone() * (1.0 + share) - before * share
            }
            None => denoised.0.clone(),
        };
        self.last = Some((denoised.0, h));
        Ok(Latent(towards(x.0, ahead, at.sigma_next() / at.sigma())))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
