//! PLMS: Adams-Bashforth over slopes, begun with the mean of two.
//!
//! Reference: Liu et al. 2022 (Pseudo Numerical Methods for Diffusion Models on Manifolds), equations 12 and 13, as in A1111's and Forge's
//! `plms` (modules/sd_samplers_timesteps_impl.py, dfdcbab).

use core_tensor::Latent;

use super::{euler::slope, heun, ipndm::WEIGHTS};
use crate::{Calls, Denoiser, Error, Noise, Sampler, Step, Stepper, past_slopes::PastSlopes, schedules};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("plms", "PLMS", |_| Ok(Box::new(Plms::default())))
        .aliases(["k_plms", "PNDM", "PNDMScheduler"])
        .about("Adams-Bashforth over the last four slopes, begun with the mean of two. The profiles `forge` and `a1111` change its levels as \
            they do DDIM's.")
        .calls(Calls::TwiceFirst)
        .diffusion_alone("ipndm")
        .automatic(schedules::ddim_uniform::schedule())
}

#[derive(Clone)]
pub(super) struct Plms {
    slopes: PastSlopes,
}

impl Default for Plms {
    fn default() -> Self {
        Self { slopes: PastSlopes::new(WEIGHTS.len()) }
    }
}

impl Stepper for Plms {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        let here = slope(x.0.clone(), denoised.0, at.sigma());
        self.slopes.push(here.clone());
        if self.slopes.len() == 1 {
            return heun::step(x, here, [at.sigma(), at.sigma_next()], model);
        }
        let dt = f64::from(at.sigma_next() - at.sigma());
        Ok(self.slopes.moved(x, WEIGHTS[self.slopes.len() - 1].iter().map(|weight| weight * dt)))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
