//! DPM-Solver++(2S), ancestral, with CFG++.
//!
//! References: as [`dpmpp_2s_ancestral`](super::dpmpp_2s_ancestral); ComfyUI `sample_dpmpp_2s_ancestral_cfg_pp` (v0.3.64).

use core_tensor::Latent;

use super::euler::towards;
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Step, Stepper,
    ancestral::Ancestral,
    exploding::exploding,
    options::{ETA, S_NOISE},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2s_ancestral_cfg_pp", "DPM++ 2S a CFG++", |start| {
        Ok(exploding(start, Dpmpp2sAncestralCfgPp { ancestral: Ancestral::of(start, &ETA).on_exploding() }))
    })
    .about("DPM++ 2S a whose noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
    .calls(Calls::Each(2))
    .stochastic()
    .needs_negative()
    .params([ETA.param(), S_NOISE.param()])
    .automatic(schedules::karras::schedule())
}

#[derive(Clone)]
struct Dpmpp2sAncestralCfgPp {
    ancestral: Ancestral,
}

impl Stepper for Dpmpp2sAncestralCfgPp {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (guided, negative) = model.denoise(&x, at.sigma())?.both()?;
        if at.sigma_next() == 0.0 {
            return Ok(guided);
        }
        let down = self.ancestral.down(at);
        let middle = (f64::from(at.sigma()) * f64::from(down.sigma)).sqrt() as f32;
        let moved = |negative: Latent| x.0.clone() + (guided.0.clone() - negative.0);
        let half_way = Latent(towards(moved(negative), guided.0.clone(), middle / at.sigma()));
        // The whole step leaves from where the model sees the middle without the prompt, as in ComfyUI.
        let (there, negative) = model.denoise(&half_way, middle)?.both()?;
        Ok(down.back_up(towards(moved(negative), there.0, down.sigma / at.sigma()), noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
