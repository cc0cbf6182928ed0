//! The exponential integrator of second order with a look at the step's middle.
//!
//! References: Hochbruck and Ostermann 2010, equation 5.3; stable-diffusion.cpp `sample_res_2s` (src/runtime/denoiser.hpp, 97d2990).

use core_tensor::Latent;

use super::euler::towards;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    ancestral::Ancestral,
    options::{ETA_0, S_NOISE},
    phi::{phi_1, phi_2},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("res_2s", "Res 2S", |start| Ok(Box::new(Res2s { ancestral: Ancestral::of(start, &ETA_0) })))
        .about("An exponential integrator with a look at the step's middle.")
        .calls(Calls::Each(2))
        .params([ETA_0.param(), S_NOISE.param()])
}

const MIDDLE: f64 = 0.5; // stable-diffusion.cpp sample_res_2s: c2

#[derive(Clone)]
struct Res2s {
    ancestral: Ancestral,
}

impl Stepper for Res2s {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let down = self.ancestral.down(at);
        let ratio = f64::from(down.sigma) / f64::from(at.sigma());
        let h = -ratio.ln();
        let to_middle = ratio.powf(MIDDLE);
        let half_way = Latent(towards(x.0.clone(), denoised.0.clone(), to_middle as f32));
        let there = model.denoise(&half_way, (f64::from(at.sigma()) * to_middle) as f32)?.latent;
        let second = phi_2(-h) / MIDDLE;
        let first = phi_1(-h) - second;
        let lower = x.0 * ratio as f32 + denoised.0 * (h * first) as f32 + there.0 * (h * second) as f32;
        Ok(down.back_up(lower, noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
