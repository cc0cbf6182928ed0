//! The Euler step: along the line from the noisy latent to the denoised one.
//!
//! Reference: k-diffusion `sample_euler`, commit 4601bf0, with `s_churn = 0` (Karras et al. 2022, algorithm 2).

use core_tensor::Latent;

use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper};

/// Euler's method.
pub static SAMPLER: Sampler = Sampler {
    id: "euler",
    label: "Euler",
    aliases: &["k_euler"],
    evals_per_step: 1,
    stochastic: false,
    start: |_| Box::new(Euler),
};

struct Euler;

impl Stepper for Euler {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma)?;
        let d = (x.0.clone() - denoised.0) / at.sigma;
        Ok(Latent(x.0 + d * (at.sigma_next - at.sigma)))
    }
}
