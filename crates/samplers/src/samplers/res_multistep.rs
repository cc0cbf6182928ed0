//! Refined exponential solver with the denoised latents of two steps.
//!
//! Reference: Zhang et al. 2023 (Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling),
//! as ComfyUI `sample_res_multistep` (v0.3.64) has it.

use core_tensor::{Latent, Tensor};

use super::euler::towards;
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, schedules};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "res_multistep",
    label: "Res Multistep",
    aliases: &[],
    evals_per_step: 1,
    stochastic: false,
    automatic: &schedules::normal::SCHEDULE,
    start: |_| Box::new(ResMultistep { last: None }),
};

struct ResMultistep {
    /// The denoised latent of the step before, and that step's length in log sigma.
    last: Option<(Tensor<4>, f64)>,
}

impl Stepper for ResMultistep {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let ratio = f64::from(at.sigma_next()) / f64::from(at.sigma());
        let h = -ratio.ln();
        let next = match self.last.take() {
            None => towards(x.0, denoised.0.clone(), ratio as f32),
            Some((before, h_last)) => {
                let phi_1 = -(-h).exp_m1() / h;
                let phi_2 = (1.0 - phi_1) / h;
                // The older latent lies at -h_last / h of this step.
                let older = -phi_2 * h / h_last;
                let newer = phi_1 - older;
                x.0 * ratio as f32 + denoised.0.clone() * (h * newer) as f32 + before * (h * older) as f32
            }
        };
        self.last = Some((denoised.0, h));
        Ok(Latent(next))
    }
}
