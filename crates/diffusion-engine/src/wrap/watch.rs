use std::sync::{Arc, Mutex, PoisonError};

use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Around, Wrap};

/// Keeps the last answer, which is what a picture in the making looks like. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Arc<Mutex<Option<Latent>>>);

impl Watch {
    /// The last answer, `[b, channels, h, w]`; `None` before the first.
    pub(crate) fn latest(&self) -> Option<Latent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Wrap for Watch {
    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Watched { inner, seen: self.clone() }))
    }
}

struct Watched {
    inner: Box<dyn Denoiser>,
    seen: Watch,
}

impl Denoiser for Watched {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let denoised = self.inner.denoise(x, sigma)?;
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(denoised.latent.clone());
        Ok(denoised)
    }
}
