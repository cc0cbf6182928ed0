//! What asks the model a second time, and adds to the guided answer what it learns.

use std::sync::Arc;

use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use crate::{Again, Around, Holds, Hooks, Wrap};

/// What is added to guided answers by asking the model a second time.
pub(super) trait Asks: Send + Sync {
    /// The pass begins.
    fn begins(&self, _at: &Around) {}

    /// Whether it adds something at a noise level: the model is not asked where it does not.
    fn counts(&self, sigma: f32) -> bool;

    /// The guided answer with what is added to it.
    ///
    /// # Errors
    /// The model's, or that it has nothing of what is asked about.
    fn added(&self, asking: &Asking, guided: Latent) -> Result<Latent, Error>;

    /// What it does inside the network in all calls, if anything.
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        None
    }

    /// What it holds of memory beside the answers that it compares.
    fn holds(&self) -> Holds {
        Holds::default()
    }

    /// The same for another run, with which it shares nothing.
    fn fork(&self) -> Arc<dyn Asks>;
}

/// A call that is answered, for who asks again.
pub(super) struct Asking<'a> {
    pub(super) again: &'a Again,
    pub(super) x: &'a Latent,
    pub(super) sigma: f32,
    /// The model's answers before guidance.
    pub(super) answers: Denoised,
}

impl Asking<'_> {
    /// An error of what went wrong here.
    pub(super) fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Model { sigma: self.sigma, source: source.into() }
    }
}

/// The wrap of what asks.
pub(super) fn wraps(asks: impl Asks + 'static) -> Vec<Arc<dyn Wrap>> {
    vec![Arc::new(AsksAround(Arc::new(asks)))]
}

struct AsksAround(Arc<dyn Asks>);

impl Wrap for AsksAround {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        self.0.begins(at);
        Ok(Box::new(AsksAgain { inner, asks: self.0.clone(), again: at.again.clone() }))
    }

    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self(self.0.fork())))
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        self.0.hooks()
    }

    fn holds(&self) -> Holds {
        // Both answers before guidance, the guided one, the further one, and what is made of them.
        self.0.holds().and(Holds { latents: 5, ..Holds::default() })
    }
}

struct AsksAgain {
    inner: Box<dyn Denoiser>,
    asks: Arc<dyn Asks>,
    again: Again,
}

impl Denoiser for AsksAgain {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent, negative } = self.inner.denoise(x, sigma)?;
        let Some(answers) = self.again.answers().filter(|_| self.asks.counts(sigma)) else {
            return Ok(Denoised { latent, negative });
        };
        let latent = self.asks.added(&Asking { again: &self.again, x, sigma, answers }, latent)?;
        Ok(Denoised { latent, negative })
    }
}
