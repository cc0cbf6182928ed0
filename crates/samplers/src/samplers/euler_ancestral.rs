//! The ancestral Euler step: further down than asked, then noise back up.
//!
//! References: k-diffusion `sample_euler_ancestral`, commit 4601bf0; ComfyUI `sample_euler_ancestral_RF` (v0.3.64).

use core_tensor::Latent;

use super::euler;
use crate::{
    Denoiser, Error, Noise, Sampler, Step, Stepper,
    ancestral::Ancestral,
    options::{ENSD, ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("euler_ancestral", "Euler a", |start| {
        Ok(Box::new(EulerAncestral { ancestral: Ancestral::of(start, &ETA) }))
    })
    .aliases([
        "k_euler_a",
        "k_euler_ancestral",
        "euler_a",
        "EulerA",
        "EulerAncestralDiscrete",
        "EulerAncestralDiscreteScheduler",
    ])
    .about("Euler further down than asked, then noise back up.")
    .stochastic()
    .params([ETA.param(), S_NOISE.param(), ENSD.param()])
}

#[derive(Clone)]
pub(super) struct EulerAncestral {
    pub(super) ancestral: Ancestral,
}

impl Stepper for EulerAncestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let down = self.ancestral.down(at);
        Ok(down.back_up(euler::towards(x.0, denoised.0, down.sigma / at.sigma()), noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
