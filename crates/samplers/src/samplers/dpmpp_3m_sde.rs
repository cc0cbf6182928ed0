//! DPM-Solver++(3M) with noise: the denoised latents of three steps.
//!
//! Reference: k-diffusion `sample_dpmpp_3m_sde`, commit 4601bf0. Its noise is as in `dpmpp_2m_sde`.

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Sampler, Step, Stepper,
    exploding::exploding,
    options::{ETA, S_NOISE},
    schedules,
    stochastic::Sde,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_3m_sde", "DPM++ 3M SDE", |start| {
        let (eta, s_noise) = (start.get(&ETA), start.get(&S_NOISE));
        Ok(exploding(start, Dpmpp3mSde { eta, s_noise, last: None, before_last: None }))
    })
    .aliases(["k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"])
    .about("DPM++ with noise, from the denoised latents of three steps.")
    .stochastic()
    .along_a_path()
    .params([ETA.param(), S_NOISE.param()])
    .automatic(schedules::exponential::schedule())
}

/// A step that was taken: its denoised latent and its length.
type Taken = (Tensor<4>, f64);

#[derive(Clone)]
struct Dpmpp3mSde {
    eta: f64,
    s_noise: f64,
    last: Option<Taken>,
    before_last: Option<Taken>,
}

impl Stepper for Dpmpp3mSde {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let sde = Sde::of(at, self.eta);
        let phi_2 = 1.0 - sde.grown() / sde.h_eta;
        let phi_3 = phi_2 / sde.h_eta - 0.5;
        let mut corrections = Vec::new();
        if let Some((last, h_1)) = &self.last {
            let newer = (denoised.0.clone() - last.clone()) * (sde.h / h_1) as f32;
            if let Some((before_last, h_2)) = &self.before_last {
                // First and second derivative by divided differences.
                let older = (last.clone() - before_last.clone()) * (sde.h / h_2) as f32;
                let bend = newer.clone() - older;
                let span = (h_1 + h_2) / sde.h;
                corrections.push((phi_2 * (h_1 / sde.h) / span - phi_3 / span, bend));
            }
            corrections.push((phi_2, newer));
        }
        self.before_last = self.last.replace((denoised.0.clone(), sde.h));
        Ok(sde.stepped(x, denoised.0, corrections, noise, self.s_noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
