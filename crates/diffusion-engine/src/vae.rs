//! AutoencoderKL (Rombach et al. 2022): from a latent to pixels, in Flux eight times as wide and high, and back.

mod blocks;
mod decoder;
mod encoder;

use core_tensor::{Tensor, Weights};

pub use self::encoder::Posterior;
use self::{decoder::Decoder, encoder::Encoder};
use crate::{Autoencoder, Error, Inside};

/// An autoencoder of any width and depth; its encoder is loaded where pictures are to be encoded.
pub struct AutoencoderKl {
    decoder: Decoder,
    encoder: Option<Encoder>,
    scaling: LatentScaling,
}

/// What lies between the autoencoder's latents and those that a model denoises: `(z - shift) · scale`. A number of the family,
/// chosen so that latents have about unit variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentScaling {
    /// What a latent is multiplied with.
    pub scale: f64,
    /// What is subtracted from it before.
    pub shift: f64,
}

/// What the tensors of an autoencoder don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct VaeHints {
    /// Replaces the family's [`LatentScaling::scale`].
    pub scaling_factor: Option<f64>,
    /// Replaces the family's [`LatentScaling::shift`].
    pub shift_factor: Option<f64>,
    /// Groups of the group norms; 32 where not given.
    pub norm_num_groups: Option<usize>,
}

const GROUPS: usize = 32; // flux/modules/autoencoder.py: every GroupNorm

impl AutoencoderKl {
    /// A tensor that every autoencoder has; before its name stands the file's prefix.
    pub const MARK: &str = "decoder.conv_in.weight";

    /// Loads the decoder alone of a file in the original layout, with or without a prefix. `family` is how latents are scaled where
    /// `hints` don't say it.
    ///
    /// # Errors
    /// A tensor that is missing or has the wrong shape, or numbers that can't be computed with.
    pub fn load(w: &Weights, hints: &VaeHints, family: LatentScaling) -> Result<Self, Error> {
        let decoder = Decoder::load(&w.before(Self::MARK), hints.norm_num_groups.unwrap_or(GROUPS))?;
        Ok(Self { decoder, encoder: None, scaling: family.replaced_by(hints)? })
    }

    /// [`AutoencoderKl::load`] with the encoder.
    ///
    /// # Errors
    /// As [`AutoencoderKl::load`], and halves that don't fit each other.
    pub fn load_both(w: &Weights, hints: &VaeHints, family: LatentScaling) -> Result<Self, Error> {
        let half = Self::load(w, hints, family)?;
        let encoder = Encoder::load(&w.before(Self::MARK), hints.norm_num_groups.unwrap_or(GROUPS))?;
        for (what, expected, found) in [
            ("the channels that an autoencoder's encoder makes", half.channels(), encoder.channels),
            ("what an autoencoder's encoder divides sides by", half.factor(), encoder.factor()),
        ] {
            if expected != found {
                let expected = format!("{expected} as its decoder has");
                return Err(Error::Model { what, expected, found: found.to_string() });
            }
        }
        Ok(Self { encoder: Some(encoder), ..half })
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        self.decoder.channels
    }

    /// Channels of the finest level, which takes the most memory.
    pub fn width(&self) -> usize {
        self.decoder.width
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        self.decoder.factor()
    }

    /// `[b, 3, h, w]`, -1 to 1, to a latent's distribution, `[b, channels, h / factor, w / factor]`, rounded down.
    ///
    /// # Errors
    /// [`Error::NoEncoder`] where it was loaded without, and what [`Inside`] ends the call with.
    pub fn encode(&self, pixels: Tensor<4>, inside: &Inside) -> Result<Posterior, Error> {
        let encoder = self.encoder.as_ref().ok_or(Error::NoEncoder)?;
        Ok(Posterior::of(encoder.forward(pixels, inside)?, self.scaling))
    }
}

impl Autoencoder for AutoencoderKl {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        self.decoder.forward(self.scaling.undo(latent), inside)
    }
}

impl LatentScaling {
    /// With what a config says in its place.
    fn replaced_by(self, hints: &VaeHints) -> Result<Self, Error> {
        Ok(Self {
            scale: as_f32("scaling_factor", hints.scaling_factor.unwrap_or(self.scale), f32::is_normal)?,
            shift: as_f32("shift_factor", hints.shift_factor.unwrap_or(self.shift), f32::is_finite)?,
        })
    }

    fn apply(self, z: Tensor<4>) -> Tensor<4> {
        (z - self.shift) * self.scale
    }

    fn undo(self, latent: Tensor<4>) -> Tensor<4> {
        latent / self.scale + self.shift
    }
}

/// A number of the config, as the f32 that it is computed in.
fn as_f32(what: &'static str, value: f64, fits: fn(f32) -> bool) -> Result<f64, Error> {
    if fits(value as f32) {
        return Ok(value);
    }
    Err(Error::Model {
        what,
        expected: "a number that f32 can hold, and a factor one that it can divide by".into(),
        found: value.to_string(),
    })
}
