//! The ancestral DPM-Solver-2 step.
//!
//! References: k-diffusion `sample_dpm_2_ancestral`, commit 4601bf0; ComfyUI `sample_dpm_2_ancestral_RF` (v0.3.64).

use core_tensor::Latent;

use super::dpm_2::midpoint;
use crate::{Denoiser, Error, Noise, Process, Sampler, Step, Stepper, ancestral::Down, schedules};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "dpm_2_ancestral",
    label: "DPM2 a",
    aliases: &["k_dpm_2_a", "k_dpm_2_ancestral", "dpm2_a"],
    evals_per_step: 2,
    stochastic: true,
    automatic: &schedules::karras::SCHEDULE,
    start: |process| Box::new(Dpm2Ancestral { process }),
};

const ETA: f32 = 1.0; // k-diffusion sample_dpm_2_ancestral
const S_NOISE: f32 = 1.0; // k-diffusion sample_dpm_2_ancestral

struct Dpm2Ancestral {
    process: Process,
}

impl Stepper for Dpm2Ancestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let down = Down::of(self.process, at, ETA);
        let x = midpoint(x, at.sigma(), down.sigma, model)?;
        Ok(if at.sigma_next() == 0.0 { x } else { down.back_up(x.0, noise, S_NOISE) })
    }
}
