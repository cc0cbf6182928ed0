//! A model for those who ask it more than once in a step.

use std::sync::{Arc, Mutex, TryLockError};

use core_tensor::Latent;
use samplers::{Denoised, Denoiser};

use crate::{Error, Hooks, Memory};

/// What answers under the prompts of a pass.
pub(crate) trait Answers: Send {
    /// The clean latents that it sees in `x` at a noise level.
    fn answer(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error>;

    /// What it sees under some prompts alone, with more hooks.
    fn again(&mut self, x: &Latent, sigma: f32, whose: Whose, hooks: &[Arc<dyn Hooks>]) -> Result<Latent, Error>;
}

/// Under which prompts a model is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// What is to be drawn.
    Positive,
    /// What is not to be drawn; what is to be drawn where there is no negative prompt.
    Negative,
}

/// The model of a pass under its prompts, past all that is wrapped around it: for what asks a second time. Clones share it.
#[derive(Clone)]
pub struct Again {
    model: Arc<Mutex<dyn Answers>>,
    last: Memory<Option<Denoised>>,
}

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Again").finish_non_exhaustive()
    }
}

impl Again {
    /// Of this model.
    pub(crate) fn of(model: impl Answers + 'static) -> Self {
        Self { model: Arc::new(Mutex::new(model)), last: Memory::default() }
    }

    /// The model as what is wrapped around it calls it first.
    pub fn denoiser(&self) -> Box<dyn Denoiser> {
        Box::new(self.clone())
    }

    /// The clean latent that the model sees in `x` at a noise level, with more hooks, which are called before the others; these can tell it
    /// by [`Call::again`](crate::Call).
    ///
    /// # Errors
    /// As [`Denoiser::denoise`]; a hook that asks the model that it is called by.
    pub fn ask(
        &self,
        x: &Latent,
        sigma: f32,
        whose: Whose,
        hooks: &[Arc<dyn Hooks>],
    ) -> Result<Latent, samplers::Error> {
        self.answered(sigma, |model| model.again(x, sigma, whose, hooks))
    }

    /// What the model answered in the call that is going on, before anything around it: to the prompt, and to the negative one where it was
    /// asked. `None` before it answers.
    pub fn answers(&self) -> Option<Denoised> {
        self.last.hold().clone()
    }

    fn answered<T>(
        &self,
        sigma: f32,
        work: impl FnOnce(&mut dyn Answers) -> Result<T, Error>,
    ) -> Result<T, samplers::Error> {
        let answer = || match self.model.try_lock() {
            Ok(mut model) => work(&mut *model),
            Err(TryLockError::Poisoned(poisoned)) => work(&mut *poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::Asked),
        };
        answer().map_err(|error| as_samplers(error, sigma))
    }
}

impl Denoiser for Again {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        *self.last.hold() = None;
        let denoised = self.answered(sigma, |model| model.answer(x, sigma))?;
        *self.last.hold() = Some(denoised.clone());
        Ok(denoised)
    }
}

/// An error as samplers hand it on.
pub(crate) fn as_samplers(error: Error, sigma: f32) -> samplers::Error {
    match error {
        Error::Cancelled => samplers::Error::Cancelled,
        error => samplers::Error::Model { sigma, source: Box::new(error) },
    }
}
