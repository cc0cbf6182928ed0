use core_tensor::Latent;
use samplers::{Denoised, Denoiser};

use crate::{Error, Inside, Predictor};

/// A model under its prompts, as samplers call it: the innermost of what is wrapped around each other.
///
/// Its answer is the positive prompt's, with the negative one's beside it where there is one.
pub struct Conditioned {
    predictor: Box<dyn Predictor>,
    which: Vec<usize>,
    inside: Inside,
}

impl Conditioned {
    /// A model that was made ready for so many prompts, with what looks inside it.
    pub fn new(predictor: Box<dyn Predictor>, prompts: usize, inside: Inside) -> Self {
        Self { predictor, which: (0..prompts).collect(), inside }
    }
}

impl Denoiser for Conditioned {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        let Self { predictor, which, inside } = self;
        let answers = inside.go_on().and_then(|()| predictor.predict(x, sigma, which, inside));
        let mut answers = answers
            .map_err(|error| match error {
                Error::Cancelled => samplers::Error::Cancelled,
                error => samplers::Error::Model { sigma, source: Box::new(error) },
            })?
            .into_iter();
        let latent = answers.next().expect("a model answers to each prompt, and there is one");
        Ok(Denoised { latent, negative: answers.next() })
    }
}
