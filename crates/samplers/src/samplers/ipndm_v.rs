//! Adams-Bashforth over slopes, with weights for uneven steps.
//!
//! Reference: ComfyUI `sample_ipndm_v` (comfy/k_diffusion/sampling.py, v0.3.64), after Zhang and Chen 2022. Its weights from the
//! third slope on are not those of the exact integral: the correction's first factor divides before it subtracts, and the oldest
//! slope's weight takes a ratio of other steps. Pictures made
//! elsewhere have these weights, so they are kept.

use core_tensor::Latent;

use super::euler::slope;
use crate::{Denoiser, Error, Noise, Sampler, Setting, Start, Step, Stepper, options::whole, past_slopes::PastSlopes};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ipndm_v", "IPNDM_V", |start| Ok(Box::new(IpndmV::of(start, false))))
        .about("Adams-Bashforth over the last slopes, with weights for uneven steps. It ends in the denoised latent, but with the \
            profile `forge` on Stable Diffusion in a step like all others.")
        .params([ORDER.param()])
}

/// ComfyUI sample_ipndm_v: max_order.
static ORDER: Setting<usize> = whole("order", "Order", [4, 1, 4], "How many slopes count.");

/// The same with a last step like all others, as Forge `sample_ipndm_v` (k_diffusion/sampling.py, dfdcbab) has it.
pub(super) fn to_the_end() -> Sampler {
    sampler().begun_by(|start| Ok(Box::new(IpndmV::of(start, true))))
}

#[derive(Clone)]
struct IpndmV {
    slopes: PastSlopes,
    /// Whether the step to 0 is a step like all others.
    to_the_end: bool,
}

impl IpndmV {
    fn of(start: &Start, to_the_end: bool) -> Self {
        Self { slopes: PastSlopes::new(start.get(&ORDER)), to_the_end }
    }
}

impl Stepper for IpndmV {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 && !self.to_the_end {
            return Ok(denoised);
        }
        self.slopes.push(slope(x.0.clone(), denoised.0, at.sigma()));
        let levels = &at.sigmas()[at.index() + 1 - self.slopes.len()..at.index() + 2];
        // The newest step first; they are negative, as sigma falls.
        let steps: Vec<f64> = levels.windows(2).rev().map(|w| f64::from(w[1]) - f64::from(w[0])).collect();
        Ok(self.slopes.moved(x, weights(&steps).into_iter().map(|weight| weight * steps[0])))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// The weight of each slope, the newest first, by the lengths of the steps that follow them.
fn weights(steps: &[f64]) -> Vec<f64> {
    match *steps {
        [h, h1] => {
            let second = h / h1 / 2.0;
            vec![1.0 + second, -second]
        }
        [h, h1, h2] => {
            let (second, third) = (h / h1 / 2.0, third(h, h1, h2));
            vec![1.0 + second + third, -second - (1.0 + h1 / h2) * third, third * h1 / h2]
        }
        [h, h1, h2, h3] => {
            let (second, third) = (h / h1 / 2.0, third(h, h1, h2));
            let share = (1.0 - h / (3.0 * (h + h1))) / 2.0 + (1.0 - h / (2.0 * (h + h1))) * h / (6.0 * (h + h1 + h2));
            let fourth = share * (h * (h + h1) * (h + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3));
            let (near, far) = (h1 / h2, h1 * (h1 + h2) / (h2 * (h2 + h3)));
            vec![
                1.0 + second + third + fourth,
                -second - (1.0 + near) * third - (1.0 + near + far) * fourth,
                third * near + (near + far * (1.0 + h2 / h3)) * fourth,
                -fourth * far * near,
            ]
        }
        _ => vec![1.0],
    }
}

fn third(h: f64, h1: f64, h2: f64) -> f64 {
    (1.0 - h / (3.0 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2.0
}
