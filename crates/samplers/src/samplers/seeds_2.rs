//! SEEDS-2: a stochastic exponential integrator without derivatives, of two stages.
//!
//! References: Gonzalez et al. 2023 (SEEDS: Exponential SDE Solvers, arXiv 2305.14267); ComfyUI `sample_seeds_2` (v0.3.64).

use core_tensor::{Latent, Tensor};

use crate::{
    Calls, Denoiser, Error, Noise, Param, Sampler, Start, Step, Stepper,
    exploding::exploding,
    options::{ETA, S_NOISE, number},
};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "seeds_2",
    label: "SEEDS 2",
    about: "A stochastic exponential integrator of two stages.",
    calls: Calls::Each(2),
    stochastic: true,
    params: &[&ETA, &S_NOISE, &R],
    start: |start| exploding(start, Seeds2 { noisy: Noisy::of(start), r: start.number(&R) }),
    ..Sampler::PLAIN
};

static R: Param =
    number("r", "R", [0.5, 0.01, 1.0], "Where in the step its second stage lies, on the scale of log sigma.");

struct Seeds2 {
    noisy: Noisy,
    r: f64,
}

/// How much noise the stages draw.
#[derive(Clone, Copy)]
pub(super) struct Noisy {
    pub(super) eta: f64,
    s_noise: f64,
}

impl Noisy {
    pub(super) fn of(start: &Start) -> Self {
        Self { eta: start.number(&ETA), s_noise: start.number(&S_NOISE) }
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
        let denoised = model.denoise(&x, at.sigma())?;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let Self { noisy, r } = *self;
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let h = (sigma / sigma_next).ln();
        let grown = |length: f64| -(-length * (1.0 + noisy.eta)).exp_m1() as f32;
        let middle = sigma * (-r * h).exp();

        let second = noisy.left(&x, sigma, middle, r * h) + denoised.0.clone() * grown(r * h);
        let carried = noisy.carried(None, r * h, &x, noise);
        let there = model.denoise(&noisy.added(second, carried.as_ref(), middle), middle as f32)?;

        let weight = (1.0 / (2.0 * r)) as f32;
        let mean = denoised.0 * (1.0 - weight) + there.0 * weight;
        let next = noisy.left(&x, sigma, sigma_next, h) + mean * grown(h);
        let carried = noisy.carried(carried, (1.0 - r) * h, &x, noise);
        Ok(noisy.added(next, carried.as_ref(), sigma_next))
    }
}
