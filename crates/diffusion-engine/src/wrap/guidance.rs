use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Around, Place, Wrap};
use crate::{Moment, Pass};

/// Classifier-free guidance: away from the negative prompt, towards the positive one (Ho and Salimans 2022).
///
/// Its answer is `negative + cfg · (positive - negative)`, with the pass's `cfg`; the answer to the negative prompt stays beside it.
#[derive(Clone, Copy, Debug)]
pub struct Guidance;

impl Wrap for Guidance {
    fn place(&self) -> Place {
        Place::Guidance
    }

    fn wants_negative(&self, pass: &Pass, _: &Moment) -> bool {
        pass.cfg > 1.0
    }

    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Guided { inner, cfg: at.pass.cfg }))
    }
}

struct Guided {
    inner: Box<dyn Denoiser>,
    cfg: f32,
}

impl Denoiser for Guided {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent: positive, negative } = self.inner.denoise(x, sigma)?;
        let Some(negative) = negative else { return Ok(Denoised { latent: positive, negative: None }) };
        let latent = Latent(negative.0.clone() + (positive.0 - negative.0.clone()) * self.cfg);
        Ok(Denoised { latent, negative: Some(negative) })
    }
}
