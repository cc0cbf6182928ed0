//! What is wrapped around a model's own denoiser.

use core_tensor::{Latent, is_finite};
use samplers::{Denoised, Denoiser, Error, Step};

/// Classifier-free guidance: away from the negative prompt, towards the positive one (Ho and Salimans 2022).
pub struct Guided<'m> {
    /// The model under the positive prompt.
    pub positive: Box<dyn Denoiser + 'm>,
    /// The model under the negative prompt.
    pub negative: Box<dyn Denoiser + 'm>,
    /// How far: 1 is the positive prompt alone.
    pub cfg: f32,
}

impl Denoiser for Guided<'_> {
    fn begin(&mut self, step: &Step) {
        self.positive.begin(step);
        self.negative.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let positive = self.positive.denoise(x, sigma)?.latent.0;
        let negative = self.negative.denoise(x, sigma)?.latent;
        let latent = Latent(negative.0.clone() + (positive - negative.0.clone()) * self.cfg);
        Ok(Denoised { latent, negative: Some(negative) })
    }
}

/// A denoiser whose every answer is checked: NaN and infinity are errors, never pixels.
pub struct Checked<'m>(pub Box<dyn Denoiser + 'm>);

impl Denoiser for Checked<'_> {
    fn begin(&mut self, step: &Step) {
        self.0.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let denoised = self.0.denoise(x, sigma)?;
        let mut answers = std::iter::once(&denoised.latent).chain(&denoised.negative);
        if answers.all(|answer| is_finite(&answer.0)) { Ok(denoised) } else { Err(Error::NotFinite { sigma }) }
    }
}
