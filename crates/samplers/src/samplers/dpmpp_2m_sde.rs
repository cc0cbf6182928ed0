//! DPM-Solver++(2M) with noise: the denoised latents of two steps, the newer carried on to the middle of the next.
//!
//! Reference: k-diffusion `sample_dpmpp_2m_sde`, commit 4601bf0 (Lu et al. 2022b, section 4.3). A step's noise is cut
//! out of a Brownian path; stable-diffusion.cpp draws it from the stream, which has the same distribution and other bits.

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Sampler, Start, Step, Stepper,
    exploding::exploding,
    options::{ETA, S_NOISE},
    schedules,
    stochastic::Sde,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2m_sde", "DPM++ 2M SDE", |start| Ok(exploding(start, Dpmpp2mSde::of(start, Solver::Midpoint))))
        .aliases(["k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpm++2m_sde", "DPM2MSDE", "dpm++2m_sde_bt"])
        .about("DPM++ 2M with noise. `k_dpmpp_2m_sde_ka`, which A1111 gave to this and to its Karras form, means the latter.")
        .stochastic()
    .along_a_path()
        .params([ETA.param(), S_NOISE.param()])
        .automatic(schedules::exponential::schedule())
}

/// How the change between two denoised latents counts (k-diffusion `solver_type`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Solver {
    Midpoint,
    Heun,
}

#[derive(Clone)]
pub(super) struct Dpmpp2mSde {
    eta: f64,
    s_noise: f64,
    solver: Solver,
    /// The denoised latent of the step before, and that step's length.
    last: Option<(Tensor<4>, f64)>,
}

impl Dpmpp2mSde {
    pub(super) fn of(start: &Start, solver: Solver) -> Self {
        Self { eta: start.get(&ETA), s_noise: start.get(&S_NOISE), solver, last: None }
    }
}

impl Stepper for Dpmpp2mSde {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let sde = Sde::of(at, self.eta);
        let weight = match self.solver {
            Solver::Midpoint => 0.5 * sde.grown(),
            Solver::Heun => 1.0 - sde.grown() / sde.h_eta,
        };
        let change = self.last.take().map(|(before, h)| (weight * sde.h / h, denoised.0.clone() - before));
        self.last = Some((denoised.0.clone(), sde.h));
        Ok(sde.stepped(x, denoised.0, change, noise, self.s_noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
