//! SEEDS-3: a stochastic exponential integrator without derivatives, of three stages.
//!
//! References: Gonzalez et al. 2023 (SEEDS: Exponential SDE Solvers, arXiv 2305.14267); ComfyUI `sample_seeds_3` (v0.3.64).

use core_tensor::Latent;

use super::seeds_2::Noisy;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    exploding::exploding,
    options::{ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("seeds_3", "SEEDS 3", |start| Ok(exploding(start, Seeds3 { noisy: Noisy::of(start) })))
        .about("A stochastic exponential integrator of three stages.")
        .calls(Calls::Each(3))
        .stochastic()
        .params([ETA.param(), S_NOISE.param()])
}

/// Where in the step the second and third stages lie (ComfyUI sample_seeds_3: r_1, r_2).
const STAGES: [f64; 2] = [1.0 / 3.0, 2.0 / 3.0];

#[derive(Clone)]
struct Seeds3 {
    noisy: Noisy,
}

impl Stepper for Seeds3 {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let first = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(first);
        }
        let (noisy, [r_1, r_2]) = (self.noisy, STAGES);
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let h = (sigma / sigma_next).ln();
        let grown = |length: f64| -(-length * (1.0 + noisy.eta)).exp_m1();
        // What a straight change of the denoised latent adds over `length`, times `length`.
        let bent = |length: f64| {
            let z = length * (1.0 + noisy.eta);
            1.0 - grown(length) / z
        };
        let [level_1, level_2] = STAGES.map(|r| sigma * (-r * h).exp());

        let second = noisy.left(&x, sigma, level_1, r_1 * h) + first.0.clone() * grown(r_1 * h) as f32;
        let carried = noisy.carried(None, r_1 * h, &x, noise);
        let second = model.denoise(&noisy.added(second, carried.as_ref(), level_1), level_1 as f32)?.latent;

        let weight = r_2 / r_1 * bent(r_2 * h);
        let third = noisy.left(&x, sigma, level_2, r_2 * h)
            + first.0.clone() * (grown(r_2 * h) - weight) as f32
            + second.0 * weight as f32;
        let carried = noisy.carried(carried, (r_2 - r_1) * h, &x, noise);
        let third = model.denoise(&noisy.added(third, carried.as_ref(), level_2), level_2 as f32)?.latent;

        let weight = bent(h) / r_2;
        let next =
            noisy.left(&x, sigma, sigma_next, h) + first.0 * (grown(h) - weight) as f32 + third.0 * weight as f32;
        let carried = noisy.carried(carried, (1.0 - r_2) * h, &x, noise);
        Ok(noisy.added(next, carried.as_ref(), sigma_next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
