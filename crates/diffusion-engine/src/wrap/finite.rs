use core_tensor::{Latent, is_finite};
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Around, Wrap};

/// The check of every answer: NaN and infinity are errors, never pixels.
pub(crate) struct Finite;

impl Wrap for Finite {
    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Checked(inner)))
    }
}

struct Checked(Box<dyn Denoiser>);

impl Denoiser for Checked {
    fn begin(&mut self, step: &Step) {
        self.0.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent, negative } = self.0.denoise(x, sigma)?;
        let checked = |x: Latent| match is_finite(&x.0) {
            Ok(true) => Ok(x),
            Ok(false) => Err(Error::NotFinite { sigma }),
            Err(error) => Err(Error::Model { sigma, source: error.into() }),
        };
        Ok(Denoised { latent: checked(latent)?, negative: negative.map(checked).transpose()? })
    }
}
