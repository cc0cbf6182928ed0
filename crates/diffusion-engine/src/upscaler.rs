//! What makes a picture larger between two passes.

use std::{fmt, str::FromStr};

use core_tensor::Tensor;

use crate::{Error, Inside, Interpolation, Size};

/// Makes a picture larger by a factor of its own, as networks for super-resolution do.
pub trait PixelUpscaler: Send + Sync {
    /// What infotexts call it.
    fn name(&self) -> &str;

    /// How many pixels a pixel becomes, in each direction.
    fn factor(&self) -> usize;

    /// Bytes that a picture of this size takes at most, beside what the upscaler itself holds.
    fn working_bytes(&self, from: Size) -> u64;

    /// One picture, `[1, 3, h, w]`, 0 to 1, with [`PixelUpscaler::factor`] times as many pixels in each direction. What it makes may
    /// leave 0 to 1 a little.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with, or the upscaler's own.
    fn upscale(&self, picture: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error>;
}

/// What a pass of another size than the one before starts from.
#[derive(Clone)]
pub enum Upscaler {
    /// The latent itself, resized.
    Latent(Interpolation),
}

/// A name that no upscaler has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownUpscaler;

impl Upscaler {
    /// What configs call those that need no file.
    pub const IDS: [&str; 6] = [
        "latent",
        "latent-antialiased",
        "latent-bicubic",
        "latent-bicubic-antialiased",
        "latent-nearest",
        "latent-nearest-exact",
    ];

    /// What A1111 and infotexts call them, in the same order.
    const LABELS: [&str; 6] = [
        "Latent",
        "Latent (antialiased)",
        "Latent (bicubic)",
        "Latent (bicubic antialiased)",
        "Latent (nearest)",
        "Latent (nearest-exact)",
    ];

    const LATENT: [Interpolation; 6] = [
        Interpolation::Bilinear,
        Interpolation::BilinearAntialiased,
        Interpolation::Bicubic,
        Interpolation::BicubicAntialiased,
        Interpolation::Nearest,
        Interpolation::NearestExact,
    ];

    /// What a config calls it.
    pub fn id(&self) -> &str {
        Self::IDS[self.place()]
    }

    /// What infotexts call it.
    pub fn label(&self) -> &str {
        Self::LABELS[self.place()]
    }

    fn place(&self) -> usize {
        let Self::Latent(of) = self;
        Self::LATENT.iter().position(|latent| latent == of).expect("every interpolation is in the list")
    }
}

impl Default for Upscaler {
    fn default() -> Self {
        Self::Latent(Interpolation::default())
    }
}

/// By what configs or infotexts call it, in any case.
impl FromStr for Upscaler {
    type Err = UnknownUpscaler;

    fn from_str(name: &str) -> Result<Self, UnknownUpscaler> {
        let is_it =
            |(id, label): (&&str, &&str)| [id, label].iter().any(|known| known.eq_ignore_ascii_case(name.trim()));
        let at = Self::IDS.iter().zip(&Self::LABELS).position(is_it).ok_or(UnknownUpscaler)?;
        Ok(Self::Latent(Self::LATENT[at]))
    }
}

impl PartialEq for Upscaler {
    fn eq(&self, other: &Self) -> bool {
        self.label() == other.label()
    }
}

impl fmt::Debug for Upscaler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.label())
    }
}
