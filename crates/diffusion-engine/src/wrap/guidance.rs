use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Around, Place, Wrap};
use crate::{Clock, Moment, Pass, PerStep};

/// Classifier-free guidance: away from the negative prompt, towards the positive one (Ho and Salimans 2022).
///
/// Its answer is `negative + cfg · (positive - negative)`, with the pass's `cfg` of the step; the answer to the negative prompt
/// stays beside it, and in steps whose `cfg` is 1 the model is not asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Guidance;

impl Wrap for Guidance {
    fn place(&self) -> Place {
        Place::Guidance
    }

    fn wants_negative(&self, pass: &Pass, at: &Moment) -> bool {
        pass.cfg.at(at.step, at.steps) > 1.0
    }

    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Guided { inner, cfg: at.pass.cfg.clone(), clock: at.clock.clone() }))
    }
}

struct Guided {
    inner: Box<dyn Denoiser>,
    cfg: PerStep,
    clock: Clock,
}

impl Denoiser for Guided {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent: positive, negative } = self.inner.denoise(x, sigma)?;
        let Some(negative) = negative else { return Ok(Denoised { latent: positive, negative: None }) };
        let at = self.clock.at(sigma);
        let cfg = self.cfg.at(at.step, at.steps);
        let latent = Latent(negative.0.clone() + (positive.0 - negative.0.clone()) * cfg);
        Ok(Denoised { latent, negative: Some(negative) })
    }
}
