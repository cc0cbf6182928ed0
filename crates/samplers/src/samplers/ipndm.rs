//! Improved pseudo numerical method: Adams-Bashforth over the last four slopes, as if steps were even.
//!
//! Reference: Zhang and Chen 2022, equations 36 to 39; with sigma as the time ComfyUI `sample_ipndm` (v0.3.64).

use core_tensor::Latent;

use super::euler::slope;
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, past_slopes::PastSlopes};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ipndm", "IPNDM", |_| Ok(Box::new(Ipndm { slopes: PastSlopes::new(WEIGHTS.len()) })))
        .aliases(["IPNDMScheduler"])
        .about("Adams-Bashforth over the last four slopes, as if the steps were even.")
}

/// The weights of the newest slope and those before it, by how many there are (Zhang and Chen 2022, equations 36 to 39).
pub(super) const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

#[derive(Clone)]
struct Ipndm {
    slopes: PastSlopes,
}

impl Stepper for Ipndm {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
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
