use core_tensor::Latent;
use samplers::{Denoised, Denoiser};

use crate::{Clock, Conditions, Error, Inside, Moment, Predictor};

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
        self.inside.go_on()?;
        let at = self.clock.at(sigma);
        let (weights, mut which): (Vec<f32>, Vec<usize>) = self.conditions.positive(at.call).unzip();
        let is_plain = self.conditions.is_plain();
        let negative = self.conditions.negative(at.call).filter(|_| !is_plain || (self.wants_negative)(at));
        which.extend(negative);
        let mut answers = self.predictor.predict(x, sigma, &which, &self.inside)?;
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
        self.answered(x, sigma).map_err(|error| match error {
            Error::Cancelled => samplers::Error::Cancelled,
            error => samplers::Error::Model { sigma, source: Box::new(error) },
        })
    }
}
