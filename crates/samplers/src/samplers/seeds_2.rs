//! SEEDS-2: a stochastic exponential integrator without derivatives, of two stages.
//!
//! References: Gonzalez et al. 2023 (SEEDS: Exponential SDE Solvers, arXiv 2305.14267); ComfyUI `sample_seeds_2` (v0.3.64, and its
//! `solver_type` of 2026).

use core_tensor::{Latent, Tensor};

use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Setting, Start, Step, Stepper,
    exploding::exploding,
    options::{ETA, S_NOISE, number},
    phi::{phi_1, phi_2},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("seeds_2", "SEEDS 2", |start| {
        Ok(exploding(start, Seeds2 { noisy: Noisy::of(start), r: start.get(&R), solver: Solver::Phi1 }))
    })
    .about("A stochastic exponential integrator of two stages.")
    .calls(Calls::Each(2))
    .stochastic()
    .params([ETA.param(), S_NOISE.param(), R.param()])
}

static R: Setting<f64> =
    number("r", "R", [0.5, 0.01, 1.0], "Where in the step its second stage lies, on the scale of log sigma.");

#[derive(Clone)]
pub(super) struct Seeds2 {
    pub(super) noisy: Noisy,
    pub(super) r: f64,
    pub(super) solver: Solver,
}

/// By what the second stage counts (ComfyUI `solver_type`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Solver {
    /// By its place in the step.
    Phi1,
    /// By its place and the step's length, so that a change that is even in log sigma is met exactly (Hochbruck and Ostermann 2010,
    /// equation 2.39).
    Phi2,
}

impl Solver {
    /// The second stage's share in the step's mean, at `r` of a step of this length.
    fn weight(self, r: f64, length: f64) -> f64 {
        match self {
            Self::Phi1 => 1.0 / (2.0 * r),
            Self::Phi2 => phi_2(-length) / (r * phi_1(-length)),
        }
    }
}

/// How much noise the stages draw.
#[derive(Clone, Copy)]
pub(super) struct Noisy {
    pub(super) eta: f64,
    s_noise: f64,
}

impl Noisy {
    pub(super) const NOT: Self = Self { eta: 0.0, s_noise: 0.0 };

    pub(super) fn of(start: &Start) -> Self {
        Self { eta: start.get(&ETA), s_noise: start.get(&S_NOISE) }
    }

    /// What is left of `x` at the stage's level, `sigma`, `length` into a step from `from`.
    pub(super) fn left(&self, x: &Latent, from: f64, sigma: f64, length: f64) -> Tensor<4> {
        x.0.clone() * (sigma / from * (-length * self.eta).exp()) as f32
    }

    /// The noise of a stage that lies `length` behind the one before, whose own fades on the way.
    pub(super) fn carried(
        &self,
        before: Option<Tensor<4>>,
        length: f64,
        like: &Latent,
        noise: &mut dyn Noise,
    ) -> Option<Tensor<4>> {
        if self.eta == 0.0 || self.s_noise == 0.0 {
            return None;
        }
        let fresh = noise.next(like).0 * (-(-2.0 * length * self.eta).exp_m1()).sqrt() as f32;
        Some(match before {
            Some(before) => before * (-length * self.eta).exp() as f32 + fresh,
            None => fresh,
        })
    }

    /// The stage's latent with its noise.
    pub(super) fn added(&self, x: Tensor<4>, carried: Option<&Tensor<4>>, sigma: f64) -> Latent {
        Latent(match carried {
            Some(carried) => x + carried.clone() * (sigma * self.s_noise) as f32,
            None => x,
        })
    }
}

impl Stepper for Seeds2 {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let Self { noisy, r, solver } = *self;
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let h = (sigma / sigma_next).ln();
        let grown = |length: f64| -(-length * (1.0 + noisy.eta)).exp_m1() as f32;
        let middle = sigma * (-r * h).exp();

        let second = noisy.left(&x, sigma, middle, r * h) + denoised.0.clone() * grown(r * h);
        let carried = noisy.carried(None, r * h, &x, noise);
        let there = model.denoise(&noisy.added(second, carried.as_ref(), middle), middle as f32)?.latent;

        let weight = solver.weight(r, h * (1.0 + noisy.eta)) as f32;
        let mean = denoised.0 * (1.0 - weight) + there.0 * weight;
        let next = noisy.left(&x, sigma, sigma_next, h) + mean * grown(h);
        let carried = noisy.carried(carried, (1.0 - r) * h, &x, noise);
        Ok(noisy.added(next, carried.as_ref(), sigma_next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
