use std::sync::Arc;

use core_tensor::Latent;
use samplers::{Denoised, Denoiser};

use crate::{
    Again, Clock, Conditions, Error, Hooks, Inside, Moment, Predictor,
    again::{Answers, Whose, as_samplers},
};

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
    pub fn timed(self, clock: Clock, wants_negative: impl Fn(Moment) -> bool + Send + 'static) -> Self {
        Self { clock, wants_negative: Box::new(wants_negative), ..self }
    }

    /// The model for those who ask it more than once.
    pub fn shared(self) -> Again {
        Again::of(self)
    }

    /// How many calls of the pass were begun before the one at a noise level.
    pub(crate) fn call(&self, sigma: f32) -> usize {
        self.clock.at(sigma).call
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

impl Answers for Conditioned {
    fn answer(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        self.answered(x, sigma)
    }

    fn again(&mut self, x: &Latent, sigma: f32, whose: Whose, hooks: &[Arc<dyn Hooks>]) -> Result<Latent, Error> {
        let at = self.clock.at(sigma);
        let inside = self.inside.at(at).again(hooks);
        let latent = match (whose, self.conditions.negative(at.call)) {
            (Whose::Negative, Some(negative)) => self.predictor.predict(x, sigma, &[negative], &inside)?.pop(),
            _ => Some(self.answers(x, at, false, &inside)?.latent),
        };
        Ok(latent.expect("a model answers to each prompt, and there is one"))
    }
}

impl Denoiser for Conditioned {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        self.answered(x, sigma).map_err(|error| as_samplers(error, sigma))
    }
}
