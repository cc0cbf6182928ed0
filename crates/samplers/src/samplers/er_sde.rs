//! ER-SDE-Solver-3: an extended reverse-time equation with noise of a chosen strength, and up to two derivatives.
//!
//! References: Cui et al. 2023 (Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion Models, arXiv 2309.06169);
//! ComfyUI `sample_er_sde` (v0.3.64), whose integrals are sums over 200 points.

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Sampler, Setting, Step, Stepper,
    exploding::exploding,
    options::{S_NOISE, whole},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("er_sde", "ER SDE", |start| {
        let (stage, s_noise) = (start.get(&STAGE), start.get(&S_NOISE));
        Ok(exploding(start, ErSde { stage, s_noise, last: None }))
    })
    .about("An extended reverse-time equation, through the denoised latents of three steps.")
    .stochastic()
    .params([STAGE.param(), S_NOISE.param()])
}

/// ComfyUI sample_er_sde.
static STAGE: Setting<usize> = whole("max_stage", "Max stage", [3, 1, 3], "How many steps' denoised latents count.");

#[derive(Clone)]
struct ErSde {
    stage: usize,
    s_noise: f64,
    last: Option<Taken>,
}

/// The step before: its denoised latent, and how that was changing.
#[derive(Clone)]
struct Taken {
    denoised: Tensor<4>,
    change: Option<Tensor<4>>,
}

/// How strong the noise is at each level (Cui et al. 2023, ER-SDE 5).
fn scaled(sigma: f64) -> f64 {
    sigma * (sigma.powf(0.3).exp() + 10.0)
}

impl Stepper for ErSde {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        const POINTS: usize = 200; // ComfyUI sample_er_sde: num_integration_points
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let before = |steps: usize| f64::from(at.sigmas()[at.index() - steps]);
        let r = scaled(sigma_next) / scaled(sigma);
        let mut next = x.0.clone() * r as f32 + denoised.0.clone() * (1.0 - r) as f32;

        let mut change = None;
        if let Some(last) = self.last.take().filter(|_| self.stage >= 2) {
            let dt = sigma_next - sigma;
            let width = -dt / POINTS as f64;
            let points = (0..POINTS).map(|i| sigma_next + i as f64 * width);
            let first: f64 = points.clone().map(|p| width / scaled(p)).sum();
            let slope = (denoised.0.clone() - last.denoised) * (1.0 / (sigma - before(1))) as f32;
            next = next + slope.clone() * (dt + first * scaled(sigma_next)) as f32;
            if let Some(older) = last.change.filter(|_| self.stage >= 3) {
                let second: f64 = points.map(|p| (p - sigma) * width / scaled(p)).sum();
                let bend = (slope.clone() - older) * (2.0 / (sigma - before(2))) as f32;
                next = next + bend * (dt.powi(2) / 2.0 + second * scaled(sigma_next)) as f32;
            }
            change = Some(slope);
        }
        self.last = Some(Taken { denoised: denoised.0, change });

        let renoise = (sigma_next.powi(2) - (sigma * r).powi(2)).max(0.0).sqrt() * self.s_noise;
        Ok(Latent(if renoise == 0.0 { next } else { next + noise.next(&x).0 * renoise as f32 }))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
