//! Euler's method with a slope that is carried on beyond the last two.
//!
//! Reference: Permenter and Yuan 2024 (Interpreting and Improving Diffusion Models from an Optimization Perspective), with the
//! `ge_gamma` of ComfyUI `sample_gradient_estimation` (v0.3.64).

use core_tensor::{Latent, Tensor};

use super::euler::slope;
use crate::{Denoiser, Error, Noise, Sampler, Setting, Step, Stepper, options::number};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("gradient_estimation", "Gradient Estimation", |start| {
        Ok(Box::new(GradientEstimation { gamma: start.get(&GAMMA) as f32, last: None }))
    })
    .aliases(["euler_ge"])
    .about("Euler with a slope that is carried on beyond the last two.")
    .params([GAMMA.param()])
}

/// ComfyUI sample_gradient_estimation.
pub(super) static GAMMA: Setting<f64> =
    number("ge_gamma", "GE gamma", [2.0, 0.0, 10.0], "How much of the newest slope counts; 1 makes it Euler.");

#[derive(Clone)]
struct GradientEstimation {
    gamma: f32,
    /// The slope of the step before.
    last: Option<Tensor<4>>,
}

impl Stepper for GradientEstimation {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let d = slope(x.0.clone(), denoised.0, at.sigma());
        let estimate = match self.last.take() {
            Some(last) => d.clone() * self.gamma - last * (self.gamma - 1.0),
            None => d.clone(),
        };
        self.last = Some(d);
        Ok(Latent(x.0 + estimate * (at.sigma_next() - at.sigma())))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
