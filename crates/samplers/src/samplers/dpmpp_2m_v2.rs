//! DPM-Solver++(2M) in stable-diffusion.cpp's second version: the change between two denoised latents counts less where steps are
//! uneven.
//!
//! Reference: stable-diffusion.cpp `sample_dpmpp_2m_v2` (src/runtime/denoiser.hpp, 97d2990).

use core_tensor::{Latent, Tensor};

use super::euler::towards;
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, schedules};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2m_v2", "DPM++ 2M v2", |_| Ok(Box::new(Dpmpp2mV2 { last: None })))
        .aliases(["dpm++2mv2", "dpmpp2mv2"])
        .about("DPM++ 2M with a smaller correction where steps are uneven.")
        .automatic(schedules::karras::schedule())
}

#[derive(Clone)]
struct Dpmpp2mV2 {
    /// The denoised latent of the step before, and that step's length in log sigma.
    last: Option<(Tensor<4>, f64)>,
}

impl Stepper for Dpmpp2mV2 {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let ratio = f64::from(at.sigma_next()) / f64::from(at.sigma());
        let h = -ratio.ln();
        let next = match self.last.take() {
            None => towards(x.0, denoised.0.clone(), ratio as f32),
            Some((before, h_last)) => {
                let share = (h_last.min(h) / h_last.max(h) / 2.0) as f32;
                let grown = -(-(h + h_last) / 2.0).exp_m1() as f32;
                x.0 * ratio as f32 + (denoised.0.clone() * (1.0 + share) - before * share) * grown
            }
        };
        self.last = Some((denoised.0, h));
        Ok(Latent(next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
