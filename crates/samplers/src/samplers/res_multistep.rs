//! The exponential integrator of second order that remembers one step (refined exponential solver).
//!
//! References: Zhang et al. 2023 (Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling,
//! arXiv 2308.02157); ComfyUI `res_multistep` (v0.3.64), also for noise and for CFG++.

use core_tensor::{Latent, Tensor};

use super::euler::towards;
use crate::{
    Denoiser, Error, Noise, Sampler, Step, Stepper,
    ancestral::Ancestral,
    phi::{phi_1, phi_2},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("res_multistep", "Res Multistep", |start| {
        Ok(Box::new(ResMultistep::of(Ancestral::fixed(start, 0.0), false)))
    })
    .about("An exponential integrator through the last two denoised latents.")
}

#[derive(Clone)]
pub(super) struct ResMultistep {
    ancestral: Ancestral,
    cfg_pp: bool,
    last: Option<Taken>,
}

/// A step that was taken.
#[derive(Clone)]
struct Taken {
    denoised: Tensor<4>,
    sigma: f64,
    /// Where its deterministic half ended.
    down: f64,
}

impl ResMultistep {
    /// With `cfg_pp` the line goes through what the model sees without the prompt.
    pub(super) fn of(ancestral: Ancestral, cfg_pp: bool) -> Self {
        Self { ancestral, cfg_pp, last: None }
    }
}

impl Stepper for ResMultistep {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?;
        let (guided, negative) =
            if self.cfg_pp { denoised.both()? } else { (denoised.latent.clone(), denoised.latent) };
        if at.sigma_next() == 0.0 {
            return Ok(guided);
        }
        let down = self.ancestral.down(at);
        let ratio = f64::from(down.sigma) / f64::from(at.sigma());
        let h = -ratio.ln();
        let lower = match self.last.take() {
            None if self.cfg_pp => guided.0 + (x.0 - negative.0.clone()) * ratio as f32,
            None => towards(x.0, guided.0, ratio as f32),
            Some(last) => {
                // Towards the prompt by all of the difference, and then as without it.
                let x = if self.cfg_pp { x.0 + (guided.0 - negative.0.clone()) } else { x.0 };
                let place = (last.down / last.sigma).ln() / h;
                let older = phi_2(-h) / place;
                let newer = phi_1(-h) - older;
                x * ratio as f32 + negative.0.clone() * (h * newer) as f32 + last.denoised * (h * older) as f32
            }
        };
        self.last = Some(Taken { denoised: negative.0, sigma: at.sigma().into(), down: down.sigma.into() });
        Ok(down.back_up(lower, noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
