//! DPM-Solver++(2M) with noise: the denoised latents of two steps, the newer carried on to the middle of the next.
//!
//! Reference: k-diffusion `sample_dpmpp_2m_sde`, commit 4601bf0 (Lu et al. 2022b, section 4.3). A step's noise is the stream's next, as in
//! stable-diffusion.cpp; k-diffusion cuts it out of a Brownian path, which has the same distribution and other bits.

use core_tensor::{Latent, Tensor};

use crate::{Denoiser, Error, Noise, Process, Sampler, Step, Stepper, schedules, stochastic::Sde};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "dpmpp_2m_sde",
    label: "DPM++ 2M SDE",
    aliases: &["k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpm++2m_sde", "DPM2MSDE"],
    evals_per_step: 1,
    stochastic: true,
    automatic: &schedules::exponential::SCHEDULE,
    start: |process| Box::new(Dpmpp2mSde { process, solver: Solver::Midpoint, last: None }),
};

const ETA: f64 = 1.0; // k-diffusion sample_dpmpp_2m_sde
const S_NOISE: f64 = 1.0; // k-diffusion sample_dpmpp_2m_sde

/// How the change between two denoised latents counts (k-diffusion `solver_type`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Solver {
    Midpoint,
    Heun,
}

pub(super) struct Dpmpp2mSde {
    pub(super) process: Process,
    pub(super) solver: Solver,
    /// The denoised latent of the step before, and that step's length.
    pub(super) last: Option<(Tensor<4>, f64)>,
}

impl Stepper for Dpmpp2mSde {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let sde = Sde::of(self.process, at, ETA);
        let denoised = model.denoise(&x, sde.sigma)?;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let weight = match self.solver {
            Solver::Midpoint => 0.5 * sde.grown(),
            Solver::Heun => 1.0 - sde.grown() / sde.h_eta,
        };
        let change = self.last.take().map(|(before, h)| (weight * sde.h / h, denoised.0.clone() - before));
        self.last = Some((denoised.0.clone(), sde.h));
        Ok(sde.stepped(x, denoised.0, change, noise, S_NOISE))
    }
}
