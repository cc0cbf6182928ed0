//! Heun's method: the mean of the slopes at both ends of an Euler step.
//!
//! Reference: k-diffusion `sample_heun`, commit 4601bf0, with `s_churn = 0` (Karras et al. 2022, algorithm 2).

use core_tensor::{Latent, Tensor};

use super::euler::slope;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    churn::{self, Churn},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("heun", "Heun", |start| Ok(Box::new(Heun { churn: Churn::of(start) })))
        .aliases(["k_heun", "HeunDiscrete", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
        .about("The mean of the slopes at both ends of the step.")
        .calls(Calls::Each(2))
        .params(churn::params())
}

#[derive(Clone)]
struct Heun {
    churn: Churn,
}

impl Stepper for Heun {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (x, sigma) = self.churn.up(at, x, noise);
        let denoised = model.denoise(&x, sigma)?.latent;
        let here = slope(x.0.clone(), denoised.0, sigma);
        step(x, here, [sigma, at.sigma_next()], model)
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// From one level to another, along the mean of the slope `here` and that at the other end; at 0 there is none.
pub(super) fn step(
    x: Latent,
    here: Tensor<4>,
    [sigma, sigma_next]: [f32; 2],
    model: &mut dyn Denoiser,
) -> Result<Latent, Error> {
    let dt = sigma_next - sigma;
    let ahead = Latent(x.0.clone() + here.clone() * dt);
    if sigma_next == 0.0 {
        return Ok(ahead);
    }
    let denoised = model.denoise(&ahead, sigma_next)?.latent;
    let there = slope(ahead.0, denoised.0, sigma_next);
    Ok(Latent(x.0 + (here + there) * (dt / 2.0)))
}
