//! The Euler step: along the line from the noisy latent to the denoised one.
//!
//! Reference: k-diffusion `sample_euler`, commit 4601bf0, (Karras et al. 2022, algorithm 2).

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Sampler, Step, Stepper,
    churn::{self, Churn},
};

/// Euler's method.
pub fn sampler() -> Sampler {
    Sampler::new("euler", "Euler", |start| Ok(Box::new(Euler { churn: Churn::of(start) })))
        .aliases(["k_euler", "EulerDiscrete", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "Undefined"])
        .about("Along the line from the noisy latent to the denoised one. Civitai writes `Undefined` in some texts where this was the sampler.")
        .params(churn::params())
}

#[derive(Clone)]
struct Euler {
    churn: Churn,
}

impl Stepper for Euler {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (x, sigma) = self.churn.up(at, x, noise);
        let denoised = model.denoise(&x, sigma)?.latent;
        let d = slope(x.0.clone(), denoised.0, sigma);
        Ok(Latent(x.0 + d * (at.sigma_next() - sigma)))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// How the latent changes with sigma: the right-hand side of the probability flow equation (Karras et al. 2022, equation 3).
pub(crate) fn slope(x: Tensor<4>, denoised: Tensor<4>, sigma: f32) -> Tensor<4> {
    (x - denoised) / sigma
}

/// The Euler step in its other form: the latent where `ratio`, the next level's share of this one, is left of the way.
pub(crate) fn towards(x: Tensor<4>, denoised: Tensor<4>, ratio: f32) -> Tensor<4> {
    x * ratio + denoised * (1.0 - ratio)
}
