//! What is wrapped around a model's own denoiser.

use core_tensor::{Latent, is_finite};
use samplers::{Denoised, Denoiser, Error};

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
        Ok(self.denoise_both(x, sigma)?.guided)
    }

    fn denoise_both(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let positive = self.positive.denoise(x, sigma)?.0;
        let negative = self.negative.denoise(x, sigma)?;
        Ok(Denoised { guided: Latent(negative.0.clone() + (positive - negative.0.clone()) * self.cfg), negative })
    }
}

/// A denoiser whose every answer is checked: NaN and infinity are errors, never pixels.
pub struct Checked<'m>(pub Box<dyn Denoiser + 'm>);

impl Denoiser for Checked<'_> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error> {
        finite(self.0.denoise(x, sigma)?, sigma)
    }

    fn denoise_both(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { guided, negative } = self.0.denoise_both(x, sigma)?;
        Ok(Denoised { guided: finite(guided, sigma)?, negative: finite(negative, sigma)? })
    }
}

fn finite(denoised: Latent, sigma: f32) -> Result<Latent, Error> {
    if is_finite(&denoised.0) { Ok(denoised) } else { Err(Error::NotFinite { sigma }) }
}
