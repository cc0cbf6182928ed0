//! The ancestral Euler step with CFG++: towards the guided latent, with the noise that the model sees without the prompt.
//!
//! References: Chung et al. 2024 (CFG++, arXiv 2406.08070), algorithm 2; ComfyUI `sample_euler_ancestral_cfg_pp` (v0.3.64), whose form
//! holds for a rectified flow too.

use core_tensor::Latent;

use crate::{
    Denoiser, Error, Noise, Process, Sampler, Step, Stepper,
    ancestral::{Ancestral, Down},
    options::{ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("euler_ancestral_cfg_pp", "Euler a CFG++", |start| Ok(Box::new(EulerCfgPp { ancestral: Ancestral::of(start, &ETA), guidance: 1.0 })))
        .aliases(["euler_a_cfg_pp", "k_euler_a_cfg_pp"])
        .about("Euler a whose new noise is what the model sees without the prompt. Guidance is best at 1 to 2. stable-diffusion.cpp's \
            interface for A1111's clients takes its name for `euler_cfg_pp`.")
        .stochastic()
        .needs_negative()
        .params([ETA.param(), S_NOISE.param()])
}

#[derive(Clone)]
pub(super) struct EulerCfgPp {
    pub(super) ancestral: Ancestral,
    /// The share of the guidance that counts.
    pub(super) guidance: f32,
}

impl Stepper for EulerCfgPp {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (guided, negative) = model.denoise(&x, at.sigma())?.both()?;
        let guided = negative.0.clone() + (guided.0 - negative.0.clone()) * self.guidance;
        if at.sigma_next() == 0.0 {
            return Ok(Latent(guided));
        }
        let signal = |sigma: f32| match self.ancestral.process {
            Process::Diffusion => 1.0,
            Process::Flow => 1.0 - sigma,
        };
        let (here, there) = (signal(at.sigma()), signal(at.sigma_next()));
        let exploding = [at.sigma() / here, at.sigma_next() / there];
        let down = self.ancestral.on_exploding().between(exploding);
        let seen = (x.0 - negative.0 * here) / at.sigma();
        let lower = guided * there + seen * (down.sigma * there);
        Ok(Down { renoise: down.renoise * there, ..down }.back_up(lower, noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
