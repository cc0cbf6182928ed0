//! PLMS: Adams-Bashforth over slopes, begun with the mean of two.
//!
//! Reference: Liu et al. 2022 (Pseudo Numerical Methods for Diffusion Models on Manifolds), equations 12 and 13, as in A1111's and Forge's
//! `plms` (modules/sd_samplers_timesteps_impl.py, dfdcbab).

use std::collections::VecDeque;

use core_tensor::{Latent, Tensor};

use super::{euler::slope, ipndm::WEIGHTS};
use crate::{Calls, Denoiser, Error, Noise, Processes, Sampler, Step, Stepper, schedules};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "plms",
    label: "PLMS",
    aliases: &["k_plms", "PNDM", "PNDMScheduler"],
    about: "Adams-Bashforth over the last four slopes, begun with the mean of two.",
    calls: Calls::TwiceFirst,
    processes: Processes::Diffusion { instead: "ipndm" },
    automatic: &schedules::ddim_uniform::SCHEDULE,
    start: |_| Box::new(Plms { slopes: VecDeque::new() }),
    ..Sampler::PLAIN
};

struct Plms {
    /// The newest first.
    slopes: VecDeque<Tensor<4>>,
}

impl Stepper for Plms {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?;
        let here = slope(x.0.clone(), denoised.0, at.sigma());
        let dt = at.sigma_next() - at.sigma();
        let first = self.slopes.is_empty();
        self.slopes.truncate(WEIGHTS.len() - 1);
        self.slopes.push_front(here.clone());
        if first && at.sigma_next() > 0.0 {
            let ahead = Latent(x.0.clone() + here.clone() * dt);
            let denoised = model.denoise(&ahead, at.sigma_next())?;
            let there = slope(ahead.0, denoised.0, at.sigma_next());
            return Ok(Latent(x.0 + (here + there) * (dt / 2.0)));
        }
        let weights = WEIGHTS[self.slopes.len() - 1];
        Ok(Latent(self.slopes.iter().zip(weights).fold(x.0, |x, (d, weight)| x + d.clone() * (weight * dt))))
    }
}
