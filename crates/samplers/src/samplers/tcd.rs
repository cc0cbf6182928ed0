//! TCD: down to an earlier time than asked, then noise back up; for models distilled to a few steps.
//!
//! References: Zheng et al. 2024 (Trajectory Consistency Distillation, arXiv 2402.19159), algorithm 4; diffusers `TCDScheduler` 0.42;
//! stable-diffusion.cpp `sample_tcd` (97d2990) for levels between those of the table.

use core_tensor::Latent;

use super::euler::towards;
use crate::{
    Denoiser, Error, Noise, Sampler, Setting, SigmaSpace, Step, Stepper, ancestral::Down, options::number, schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("tcd", "TCD", |start| Ok(Box::new(Tcd { space: start.space, eta: start.get(&ETA) })))
        .aliases(["TCDScheduler"])
        .about(
            "Down to an earlier time than asked, then noise back up: for models distilled to a few steps. \
            stable-diffusion.cpp's `eta` is 0 unless it is set.",
        )
        .stochastic()
        .params([ETA.param()])
        .diffusion_alone("lcm")
        .automatic(schedules::lcm::schedule())
}

/// diffusers TCDScheduler.step.
static ETA: Setting<f64> =
    number("eta", "Eta", [0.3, 0.0, 1.0], "How much earlier than asked a step ends; 0 draws no noise.");

#[derive(Clone)]
struct Tcd {
    space: SigmaSpace,
    eta: f64,
}

impl Tcd {
    /// The level at the share `1 - eta` of the time of `sigma`.
    fn earlier(&self, sigma: f32) -> f32 {
        let distance = |index: &usize| (self.space.level(*index) - f64::from(sigma)).abs();
        let near = (0..self.space.levels()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
        let earlier = ((1.0 - self.eta) * near as f64).floor() as usize;
        (self.space.level(earlier) as f32).min(sigma)
    }
}

impl Stepper for Tcd {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let earlier = if self.eta == 0.0 { at.sigma_next() } else { self.earlier(at.sigma_next()) };
        let renoise = (at.sigma_next().powi(2) - earlier.powi(2)).sqrt();
        let down = Down { sigma: earlier, signal: 1.0, renoise };
        Ok(down.back_up(towards(x.0, denoised.0, earlier / at.sigma()), noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
