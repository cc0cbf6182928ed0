//! Latent consistency: denoise all the way, then noise the result to the next level.
//!
//! Reference: Luo et al. 2023 (Latent Consistency Models), algorithm 3, as ComfyUI `sample_lcm` (v0.3.64) has it.

use core_tensor::Latent;

use crate::{Denoiser, Error, Noise, Process, Sampler, Step, Stepper};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("lcm", "LCM", |start| Ok(Box::new(Lcm { process: start.space.process() })))
        .aliases(["k_lcm", "LCMScheduler", "FlowMatchLCMScheduler"])
        .about(
            "Denoise at once, then noise to the next level: for models distilled to a few steps. With the profiles \
            `forge` and `a1111` schedules space the fifty levels for it that such models were distilled on.",
        )
        .stochastic()
}

#[derive(Clone)]
struct Lcm {
    process: Process,
}

impl Stepper for Lcm {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let signal = match self.process {
            Process::Diffusion => 1.0,
            Process::Flow => 1.0 - at.sigma_next(),
        };
        let fresh = noise.next(&denoised).0;
        Ok(Latent(denoised.0 * signal + fresh * at.sigma_next()))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
