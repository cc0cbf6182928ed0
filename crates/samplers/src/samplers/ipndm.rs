//! Improved pseudo numerical method: Adams-Bashforth over the last four slopes, as if steps were even.
//!
//! Reference: Zhang and Chen 2022, equations 36 to 39; with sigma as the time ComfyUI `sample_ipndm` (v0.3.64).

use core_tensor::Latent;

use super::euler::slope;
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, past_slopes::PastSlopes};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ipndm", "IPNDM", |_| Ok(Box::new(Ipndm::new(false))))
        .aliases(["IPNDMScheduler"])
        .about("Adams-Bashforth over the last four slopes, as if the steps were even. It ends in the denoised latent, but with the \
            profile `forge` on Stable Diffusion in a step like all others.")
}

/// The weights of the newest slope and those before it, by how many there are (Zhang and Chen 2022, equations 36 to 39).
pub(super) const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// The same with a last step like all others, as Forge `sample_ipndm` (k_diffusion/sampling.py, dfdcbab) has it.
pub(super) fn to_the_end() -> Sampler {
    sampler().begun_by(|_| Ok(Box::new(Ipndm::new(true))))
}

#[derive(Clone)]
struct Ipndm {
    slopes: PastSlopes,
    /// Whether the step to 0 is a step like all others.
    to_the_end: bool,
}

impl Ipndm {
    fn new(to_the_end: bool) -> Self {
        Self { slopes: PastSlopes::new(WEIGHTS.len()), to_the_end }
    }
}

impl Stepper for Ipndm {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 && !self.to_the_end {
            return Ok(denoised);
        }
        self.slopes.push(slope(x.0.clone(), denoised.0, at.sigma()));
        let dt = f64::from(at.sigma_next() - at.sigma());
        Ok(self.slopes.moved(x, WEIGHTS[self.slopes.len() - 1].iter().map(|weight| weight * dt)))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
