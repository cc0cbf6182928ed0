//! The ancestral DPM-Solver-2 step.
//!
//! References: k-diffusion `sample_dpm_2_ancestral`, commit 4601bf0; ComfyUI `sample_dpm_2_ancestral_RF` (v0.3.64).

use core_tensor::Latent;

use super::dpm_2::midpoint;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    ancestral::Ancestral,
    options::{ENSD, ETA, S_NOISE},
    schedules,
};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "dpm_2_ancestral",
    label: "DPM2 a",
    aliases: &[
        "k_dpm_2_a",
        "k_dpm_2_ancestral",
        "dpm2_a",
        "DPM2A",
        "kdpm_2_a",
        "kdpm_2_ancestral",
        "KDPM2AncestralDiscreteScheduler",
    ],
    calls: Calls::Each(2),
    stochastic: true,
    automatic: &schedules::karras::SCHEDULE,
    about: "DPM2 further down than asked, then noise back up.",
    params: &[&ETA, &S_NOISE, &ENSD],
    start: |start| Box::new(Dpm2Ancestral { ancestral: Ancestral::of(start, &ETA) }),
    ..Sampler::PLAIN
};

#[derive(Clone)]
struct Dpm2Ancestral {
    ancestral: Ancestral,
}

impl Stepper for Dpm2Ancestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let down = self.ancestral.down(at);
        let x = midpoint(x, at.sigma(), down.sigma, model)?;
        Ok(if at.sigma_next() == 0.0 { x } else { down.back_up(x.0, noise) })
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
