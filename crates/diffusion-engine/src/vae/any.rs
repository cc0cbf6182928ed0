use core_tensor::{Tensor, Weights};

use super::{AutoencoderKl, Maps, TinyAutoencoder, TinyDimensions, VaeDimensions};
use crate::{Autoencoder, Error, Inside};

/// An autoencoder of a model, of whichever architecture its file has.
#[derive(Debug)]
pub enum AnyVae {
    /// The one that latent diffusion came with.
    Kl(Box<AutoencoderKl>),
    /// A tiny one in its place.
    Tiny(Box<TinyAutoencoder>),
}

/// How large an autoencoder of either architecture is, as its tensors say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyVaeDimensions {
    /// Of [`AutoencoderKl`].
    Kl(VaeDimensions),
    /// Of [`TinyAutoencoder`].
    Tiny(TinyDimensions),
}

impl AnyVae {
    /// How large it is.
    pub fn dimensions(&self) -> AnyVaeDimensions {
        match self {
            Self::Kl(vae) => AnyVaeDimensions::Kl(vae.dimensions().clone()),
            Self::Tiny(vae) => AnyVaeDimensions::Tiny(vae.dimensions().clone()),
        }
    }
}

impl From<AutoencoderKl> for AnyVae {
    fn from(vae: AutoencoderKl) -> Self {
        Self::Kl(Box::new(vae))
    }
}

impl From<TinyAutoencoder> for AnyVae {
    fn from(vae: TinyAutoencoder) -> Self {
        Self::Tiny(Box::new(vae))
    }
}

impl Autoencoder for AnyVae {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        match self {
            Self::Kl(vae) => vae.decode(latent, inside),
            Self::Tiny(vae) => vae.decode(latent, inside),
        }
    }

    fn encode(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>, inside: &Inside) -> Result<Tensor<4>, Error> {
        match self {
            Self::Kl(vae) => vae.encode(pixels, noise, inside),
            Self::Tiny(vae) => vae.encode(pixels, noise, inside),
        }
    }
}

impl AnyVaeDimensions {
    /// Reads those of the decoder off the tensors' shapes, where group norms have `groups` groups; of a tiny autoencoder also those of the
    /// encoder, where there is one.
    ///
    /// # Errors
    /// As [`VaeDimensions::of`] and [`TinyDimensions::of`].
    pub fn of(w: &Weights, groups: usize) -> Result<Self, Error> {
        match TinyDimensions::are_of(w) {
            true => Ok(Self::Tiny(TinyDimensions::of(w)?)),
            false => Ok(Self::Kl(VaeDimensions::of(w, groups)?)),
        }
    }

    /// Those of both halves.
    ///
    /// # Errors
    /// As [`VaeDimensions::of_both`] and [`TinyDimensions::of`], and [`Error::NoEncoder`].
    pub fn of_both(w: &Weights, groups: usize) -> Result<Self, Error> {
        match TinyDimensions::are_of(w) {
            true => {
                let dimensions = TinyDimensions::of(w)?;
                if dimensions.has_encoder() { Ok(Self::Tiny(dimensions)) } else { Err(Error::NoEncoder) }
            }
            false => Ok(Self::Kl(VaeDimensions::of_both(w, groups)?)),
        }
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        match self {
            Self::Kl(dimensions) => dimensions.channels(),
            Self::Tiny(dimensions) => dimensions.channels(),
        }
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        match self {
            Self::Kl(dimensions) => dimensions.factor(),
            Self::Tiny(dimensions) => dimensions.factor(),
        }
    }

    /// What decoding a latent of this height and width takes where there is `room` for so many bytes; a tiny autoencoder has no tiles.
    pub fn decoding(&self, latent: [usize; 2], room: Option<u64>) -> Maps {
        match self {
            Self::Kl(dimensions) => dimensions.decoding(latent, room),
            Self::Tiny(dimensions) => Maps { bytes: dimensions.decoding_bytes(latent), tiles: 1 },
        }
    }

    /// What encoding a picture to a latent of this height and width takes, as [`AnyVaeDimensions::decoding`]. Nothing without an encoder.
    pub fn encoding(&self, latent: [usize; 2], room: Option<u64>) -> Maps {
        match self {
            Self::Kl(dimensions) => dimensions.encoding(latent, room),
            Self::Tiny(dimensions) => Maps { bytes: dimensions.encoding_bytes(latent), tiles: 1 },
        }
    }
}
