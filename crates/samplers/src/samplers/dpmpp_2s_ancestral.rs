//! DPM-Solver++(2S), ancestral: the denoised latent of a whole step is taken in its middle.
//!
//! References: k-diffusion `sample_dpmpp_2s_ancestral`, commit 4601bf0 (Lu et al. 2022b, algorithm 1 with r = 1/2); for
//! rectified flow ComfyUI `sample_dpmpp_2s_ancestral_RF` (v0.3.64), whose middle is that of the log signal-to-noise ratio.

use core_tensor::Latent;

use super::euler::towards;
use crate::{
    Calls, Denoiser, Error, Noise, Process, Sampler, Step, Stepper,
    ancestral::Ancestral,
    options::{ENSD, ETA, S_NOISE},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2s_ancestral", "DPM++ 2S a", |start| {
        Ok(Box::new(Dpmpp2sAncestral { ancestral: Ancestral::of(start, &ETA) }))
    })
    .aliases(["k_dpmpp_2s_a", "dpm++2s_a", "DPM++ 2s a RF", "[Forge] Flux Realistic", "DPM2SA"])
    .about("The denoised latent of a whole step is taken in its middle; then noise back up.")
    .calls(Calls::Each(2))
    .stochastic()
    .params([ETA.param(), S_NOISE.param(), ENSD.param()])
    .automatic(schedules::karras::schedule())
}

const BELOW_ONE: f32 = 0.9999; // ComfyUI sample_dpmpp_2s_ancestral_RF: the middle of a step from pure noise

#[derive(Clone)]
struct Dpmpp2sAncestral {
    ancestral: Ancestral,
}

impl Stepper for Dpmpp2sAncestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let down = self.ancestral.down(at);
        let middle = match self.ancestral.process {
            Process::Diffusion => (at.sigma() * down.sigma).sqrt(),
            Process::Flow if at.sigma() == 1.0 => BELOW_ONE,
            Process::Flow => {
                let odds = |sigma: f32| (1.0 - f64::from(sigma)) / f64::from(sigma);
                (1.0 / ((odds(at.sigma()) * odds(down.sigma)).sqrt() + 1.0)) as f32
            }
        };
        let half_way = Latent(towards(x.0.clone(), denoised.0, middle / at.sigma()));
        let denoised = model.denoise(&half_way, middle)?.latent;
        Ok(down.back_up(towards(x.0, denoised.0, down.sigma / at.sigma()), noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
