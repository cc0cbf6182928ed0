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

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpm_2_ancestral", "DPM2 a", |start| {
        Ok(Box::new(Dpm2Ancestral { ancestral: Ancestral::of(start, &ETA) }))
    })
    .aliases([
        "k_dpm_2_a",
        "k_dpm_2_ancestral",
        "dpm2_a",
        "DPM2A",
        "kdpm_2_a",
        "kdpm_2_ancestral",
        "KDPM2AncestralDiscreteScheduler",
    ])
    .about("DPM2 further down than asked, then noise back up.")
    .calls(Calls::Each(2))
    .stochastic()
    .params([ETA.param(), S_NOISE.param(), ENSD.param()])
    .automatic(schedules::karras::schedule())
}

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
