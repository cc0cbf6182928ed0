//! Gradient estimation with CFG++.
//!
//! References: as [`gradient_estimation`](super::gradient_estimation); ComfyUI `sample_gradient_estimation_cfg_pp` (v0.3.64).

use core_tensor::{Latent, Tensor};

use super::{euler::slope, gradient_estimation::GAMMA};
use crate::{Denoiser, Error, Noise, Sampler, Step, Stepper, exploding::exploding};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("gradient_estimation_cfg_pp", "Gradient Estimation CFG++", |start| {
        Ok(exploding(start, GradientEstimationCfgPp { gamma: start.get(&GAMMA) as f32, last: None }))
    })
    .about("Gradient Estimation whose noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
    .needs_negative()
    .params([GAMMA.param()])
}

#[derive(Clone)]
struct GradientEstimationCfgPp {
    gamma: f32,
    /// The slope of the step before.
    last: Option<Tensor<4>>,
}

impl Stepper for GradientEstimationCfgPp {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let (guided, negative) = model.denoise(&x, at.sigma())?.both()?;
        if at.sigma_next() == 0.0 {
            return Ok(guided);
        }
        let d = slope(x.0, negative.0, at.sigma());
        let mut next = guided.0 + d.clone() * at.sigma_next();
        if let Some(last) = self.last.take() {
            next = next + (d.clone() - last) * ((self.gamma - 1.0) * (at.sigma_next() - at.sigma()));
        }
        self.last = Some(d);
        Ok(Latent(next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
