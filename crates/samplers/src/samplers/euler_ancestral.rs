//! The ancestral Euler step: further down than asked, then noise back up.
//!
//! References: k-diffusion `sample_euler_ancestral`, commit 4601bf0; ComfyUI `sample_euler_ancestral_RF` (v0.3.64).

use core_tensor::Latent;

use super::euler;
use crate::{Denoiser, Error, Noise, Process, Sampler, Step, Stepper, ancestral::Down, schedules};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "euler_ancestral",
    label: "Euler a",
    aliases: &["k_euler_a", "k_euler_ancestral", "euler_a"],
    evals_per_step: 1,
    stochastic: true,
    automatic: &schedules::normal::SCHEDULE,
    start: |process| Box::new(EulerAncestral { process }),
};

const ETA: f32 = 1.0; // k-diffusion sample_euler_ancestral
const S_NOISE: f32 = 1.0; // k-diffusion sample_euler_ancestral

struct EulerAncestral {
    process: Process,
}

impl Stepper for EulerAncestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let down = Down::of(self.process, at, ETA);
        Ok(down.back_up(euler::towards(x.0, denoised.0, down.sigma / at.sigma()), noise, S_NOISE))
    }
}
