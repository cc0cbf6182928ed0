//! DPM-Solver-2: the slope of a whole step is taken in its middle, on the scale of log sigma.
//!
//! Reference: k-diffusion `sample_dpm_2`, commit 4601bf0, (Lu et al. 2022, algorithm 1).

use core_tensor::Latent;

use super::euler::slope;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    churn::{self, Churn},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpm_2", "DPM2", |start| Ok(Box::new(Dpm2 { churn: Churn::of(start) })))
        .aliases(["k_dpm_2", "dpm2", "kdpm_2", "KDPM2Discrete", "KDPM2DiscreteScheduler"])
        .about("The slope of a whole step is taken in its middle, on the scale of log sigma.")
        .calls(Calls::Each(2))
        .params(churn::params())
        .automatic(schedules::karras::schedule())
}

#[derive(Clone)]
struct Dpm2 {
    churn: Churn,
}

impl Stepper for Dpm2 {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (x, sigma) = self.churn.up(at, x, noise);
        midpoint(x, sigma, at.sigma_next(), model)
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// From one level to another by the slope at their geometric mean; to 0 by Euler's method, as 0 has no logarithm.
pub(crate) fn midpoint(x: Latent, sigma: f32, end: f32, model: &mut dyn Denoiser) -> Result<Latent, Error> {
    let denoised = model.denoise(&x, sigma)?.latent;
    let here = slope(x.0.clone(), denoised.0, sigma);
    if end == 0.0 {
        return Ok(Latent(x.0 - here * sigma));
    }
    let middle = (sigma * end).sqrt();
    let half_way = Latent(x.0.clone() + here * (middle - sigma));
    let denoised = model.denoise(&half_way, middle)?.latent;
    Ok(Latent(x.0 + slope(half_way.0, denoised.0, middle) * (end - sigma)))
}
