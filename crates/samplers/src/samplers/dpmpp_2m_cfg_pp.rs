//! DPM-Solver++(2M) with CFG++.
//!
//! References: as [`dpmpp_2m`](super::dpmpp_2m); ComfyUI `sample_dpmpp_2m_cfg_pp` (v0.3.64).

use core_tensor::{Latent, Tensor};

use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, exploding::exploding, schedules};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2m_cfg_pp", "DPM++ 2M CFG++", |start| Ok(exploding(start, Dpmpp2mCfgPp { last: None })))
        .about("DPM++ 2M whose noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
        .needs_negative()
        .automatic(schedules::karras::schedule())
}

#[derive(Clone)]
struct Dpmpp2mCfgPp {
    /// What the model saw without the prompt in the step before, and that step's length in log sigma.
    last: Option<(Tensor<4>, f64)>,
}

impl Stepper for Dpmpp2mCfgPp {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let (guided, negative) = model.denoise(&x, at.sigma())?.both()?;
        if at.sigma_next() == 0.0 {
            return Ok(guided);
        }
        let ratio = f64::from(at.sigma_next()) / f64::from(at.sigma());
        let h = -ratio.ln();
        let mut next = guided.0.clone() + (x.0 - negative.0.clone()) * ratio as f32;
        if let Some((before, h_last)) = self.last.take() {
            next = next + (guided.0 - before) * ((1.0 - ratio) * h / (2.0 * h_last)) as f32;
        }
        self.last = Some((negative.0, h));
        Ok(Latent(next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
