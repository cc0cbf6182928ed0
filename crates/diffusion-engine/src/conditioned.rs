use std::sync::{Arc, Mutex, TryLockError};

use core_tensor::Latent;
use samplers::{Denoised, Denoiser};

use crate::{Clock, Conditions, Error, Hooks, Inside, Moment, Predictor, conditioning::Next};

/// A model under its prompts, as samplers call it: the innermost of what is wrapped around each other.
///
/// Its answer is that to the positive prompt, with the one to the negative prompt beside it where that was asked for. To several
/// prompts at once it is `n + Σ wᵢ · (cᵢ - n)`, with the answers `cᵢ` and `n` to the negative one (Liu et al. 2022, as in A1111).
pub struct Conditioned {
    predictor: Box<dyn Predictor>,
    conditions: Conditions,
    inside: Inside,
    clock: Clock,
    wants_negative: Box<dyn Fn(Moment) -> bool + Send>,
}

impl std::fmt::Debug for Conditioned {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Conditioned").finish_non_exhaustive()
    }
}

impl Conditioned {
    /// A model that was made ready for these prompts, with what looks inside it; the negative prompt is asked for in each call.
    pub fn new(predictor: Box<dyn Predictor>, conditions: Conditions, inside: Inside) -> Self {
        let inside = inside.of_positives(conditions.positives());
        Self { predictor, conditions, inside, clock: Clock::default(), wants_negative: Box::new(|_| true) }
    }

    /// The same with the clock of a pass, and with what says whether a call needs the negative prompt.
    pub(crate) fn timed(self, clock: Clock, wants_negative: impl Fn(Moment) -> bool + Send + 'static) -> Self {
        Self { clock, wants_negative: Box::new(wants_negative), ..self }
    }

    fn answered(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let at = self.clock.at(sigma);
        let inside = self.inside.at(at);
        self.answers(x, at, (self.wants_negative)(at), &inside)
    }

    /// The answers at a moment, with that to the negative prompt where it is wanted or the positive ones need it.
    fn answers(&mut self, x: &Latent, at: Moment, wants_negative: bool, inside: &Inside) -> Result<Denoised, Error> {
        inside.go_on()?;
        let (weights, mut which): (Vec<f32>, Vec<usize>) = self.conditions.positive(at.call).unzip();
        let is_plain = self.conditions.is_plain();
        let negative = self.conditions.negative(at.call).filter(|_| !is_plain || wants_negative);
        which.extend(negative);
        let mut answers = self.predictor.predict(x, at.sigma, &which, inside)?;
        let negative = negative.and_then(|_| answers.pop());
        let mut answers = weights.into_iter().zip(answers);
        let (weight, first) = answers.next().expect("a model answers to each prompt, and there is one");
        let latent = match &negative {
            Some(Latent(n)) if !is_plain => {
                let towards = |(weight, Latent(c))| (c - n.clone()) * weight;
                Latent(answers.map(towards).fold(n.clone() + towards((weight, first)), |sum, part| sum + part))
            }
            _ => first,
        };
        Ok(Denoised { latent, negative })
    }
}

impl Denoiser for Conditioned {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        self.answered(x, sigma).map_err(|error| as_samplers(error, sigma))
    }
}

/// An error as samplers hand it on.
pub(crate) fn as_samplers(error: Error, sigma: f32) -> samplers::Error {
    match error {
        Error::Cancelled => samplers::Error::Cancelled,
        error => samplers::Error::Model { sigma, source: Box::new(error) },
    }
}

/// The model of a pass under its prompts, past all that is wrapped around it: for what asks a second time. Clones share it.
#[derive(Clone, Debug)]
pub struct Again(Arc<Mutex<Turns>>);

/// Whose turn it is to answer.
struct Turns {
    /// None where the model that was to take over could not.
    now: Option<Conditioned>,
    next: Option<Next>,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Turns {
    /// The model whose turn it is.
    fn of(&mut self, sigma: f32) -> Result<&mut Conditioned, Error> {
        let call = self.now.as_ref().map(|now| now.clock.at(sigma).call);
        if let Some(next) = self.next.take_if(|next| call.is_some_and(|call| call >= next.from)) {
            // There may be room for one network alone.
            self.now = None;
            self.now = Some(next.taken_over()?);
        }
        // What stopped the other from taking over has stopped the run.
        self.now.as_mut().ok_or(Error::Cancelled)
    }
}

/// Under which prompts a model is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// What is to be drawn.
    Positive,
    /// What is not to be drawn; what is to be drawn where there is no negative prompt.
    Negative,
}

impl Again {
    /// Of this model.
    pub fn of(model: Conditioned) -> Self {
        Self(Arc::new(Mutex::new(Turns { now: Some(model), next: None })))
    }

    /// Of this model, until another takes over.
    pub(crate) fn until(model: Conditioned, next: Option<Next>) -> Self {
        Self(Arc::new(Mutex::new(Turns { now: Some(model), next })))
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
        self.answered(sigma, |model| {
            let at = model.clock.at(sigma);
            let inside = model.inside.at(at).again(hooks);
            let latent = match (whose, model.conditions.negative(at.call)) {
                (Whose::Negative, Some(negative)) => model.predictor.predict(x, sigma, &[negative], &inside)?.pop(),
                _ => Some(model.answers(x, at, false, &inside)?.latent),
            };
            Ok(latent.expect("a model answers to each prompt, and there is one"))
        })
    }

    /// What becomes of the model whose turn it is.
    fn answered<T>(
        &self,
        sigma: f32,
        work: impl FnOnce(&mut Conditioned) -> Result<T, Error>,
    ) -> Result<T, samplers::Error> {
        let answer = || {
            let mut turns = match self.0.try_lock() {
                Ok(turns) => turns,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(Error::Asked),
            };
            work(turns.of(sigma)?)
        };
        answer().map_err(|error| as_samplers(error, sigma))
    }
}

impl Denoiser for Again {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        self.answered(sigma, |model| model.answered(x, sigma))
    }
}
