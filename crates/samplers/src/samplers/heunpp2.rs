//! Heun++: slopes up to two steps ahead, weighted by their noise levels.
//!
//! Reference: Forge `sample_heunpp2` (k_diffusion/sampling.py, dfdcbab), as in ComfyUI.

use core_tensor::Latent;

use super::euler::slope;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    churn::{self, Churn},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("heunpp2", "HeunPP2", |start| Ok(Box::new(HeunPp2 { churn: Churn::of(start) })))
        .aliases(["k_heunpp2"])
        .about("The mean of the slopes here and up to two steps ahead, weighted by their noise levels.")
        .calls(Calls::Ahead(3))
        .params(churn::params())
}

#[derive(Clone)]
struct HeunPp2 {
    churn: Churn,
}

impl Stepper for HeunPp2 {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (x, sigma) = self.churn.up(at, x, noise);
        let levels = at.sigmas();
        // The last level has no slope to look at.
        let ahead = &levels[at.index() + 1..(at.index() + 3).min(levels.len() - 1).max(at.index() + 1)];
        let denoised = model.denoise(&x, sigma)?.latent;
        let here = slope(x.0.clone(), denoised.0, sigma);
        let dt = at.sigma_next() - sigma;
        let all = (ahead.len() + 1) as f32 * levels[0];
        let mut mean = here.clone() * (1.0 - ahead.iter().map(|level| level / all).sum::<f32>());
        let (mut there, mut d, mut from) = (x.clone(), here, sigma);
        for &level in ahead {
            there = Latent(there.0 + d * (level - from));
            let denoised = model.denoise(&there, level)?.latent;
            d = slope(there.0.clone(), denoised.0, level);
            mean = mean + d.clone() * (level / all);
            from = level;
        }
        Ok(Latent(x.0 + mean * dt))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
