//! What is wrapped around a model's own denoiser.

use core_tensor::{Latent, is_finite};
use samplers::{Denoiser, Error};

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
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error> {
        let positive = self.positive.denoise(x, sigma)?.0;
        let negative = self.negative.denoise(x, sigma)?.0;
        Ok(Latent(negative.clone() + (positive - negative) * self.cfg))
    }
}

/// A denoiser whose every answer is checked: NaN and infinity are errors, never pixels.
pub struct Checked<'m>(pub Box<dyn Denoiser + 'm>);

impl Denoiser for Checked<'_> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error> {
        let denoised = self.0.denoise(x, sigma)?;
        if !is_finite(&denoised.0) {
            return Err(Error::NotFinite { sigma });
        }
        Ok(denoised)
    }
}
