use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Around, Wrap};
use crate::Clock;

/// Counts the calls of a sampler, whatever stands between it and the model.
pub(crate) struct Count;

impl Wrap for Count {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Counted { inner, clock: at.clock.clone() }))
    }
}

struct Counted {
    inner: Box<dyn Denoiser>,
    clock: Clock,
}

impl Denoiser for Counted {
    fn begin(&mut self, step: &Step) {
        self.clock.begins(step);
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let denoised = self.inner.denoise(x, sigma);
        self.clock.count();
        denoised
    }
}
