//! AutoencoderKL (Rombach et al. 2022): from a latent to pixels, in Flux eight times as wide and high, and back.

mod blocks;
mod decoder;
mod dimensions;
mod encoder;
mod tiles;

use std::ops::Range;

use core_tensor::{Tensor, Weights};

use self::{decoder::Decoder, encoder::Encoder};
pub use self::{
    dimensions::VaeDimensions,
    encoder::Posterior,
    tiles::{TileCost, TilePlan},
};
use crate::{Autoencoder, Error, Inside};

/// An autoencoder of any width and depth; its encoder is loaded where pictures are to be encoded.
#[derive(Debug)]
pub struct AutoencoderKl {
    decoder: Decoder,
    encoder: Option<Encoder>,
    dimensions: VaeDimensions,
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
pub struct VaeConfig {
    /// Replaces the family's [`LatentScaling::scale`].
    pub scaling_factor: Option<f64>,
    /// Replaces the family's [`LatentScaling::shift`].
    pub shift_factor: Option<f64>,
    /// Groups of the group norms; 32 where not given.
    pub norm_num_groups: Option<usize>,
}

/// How often the results of tiles are held while they are put together: as tiles, rows of them, and the whole, with what overlaps.
const COPIES: u64 = 4;

const GROUPS: usize = 32; // flux/modules/autoencoder.py: every GroupNorm

impl VaeConfig {
    /// Groups of every norm.
    pub fn groups(&self) -> usize {
        self.norm_num_groups.unwrap_or(GROUPS)
    }
}

impl AutoencoderKl {
    /// A tensor that every autoencoder has; before its name stands the file's prefix.
    pub const MARK: &str = "decoder.conv_in.weight";

    /// Loads the decoder alone of a file in the original layout, with or without a prefix. `family` is how latents are scaled where
    /// `config` doesn't say it.
    ///
    /// # Errors
    /// As [`VaeDimensions::of`], a tensor that is missing or has the wrong shape, or numbers that can't be computed with.
    pub fn load(w: &Weights, config: &VaeConfig, family: LatentScaling) -> Result<Self, Error> {
        Self::of(w, VaeDimensions::of(w, config.groups())?, config, family)
    }

    /// [`AutoencoderKl::load`] with the encoder.
    ///
    /// # Errors
    /// As [`AutoencoderKl::load`], and halves that don't fit each other.
    pub fn load_both(w: &Weights, config: &VaeConfig, family: LatentScaling) -> Result<Self, Error> {
        Self::of(w, VaeDimensions::of_both(w, config.groups())?, config, family)
    }

    fn of(w: &Weights, dimensions: VaeDimensions, config: &VaeConfig, family: LatentScaling) -> Result<Self, Error> {
        let (w, groups) = (w.before(Self::MARK).laid_out(dimensions.layout()), config.groups());
        let encoder = dimensions.encoder.as_ref().map(|encoder| Encoder::load(&w, encoder, groups));
        Ok(Self {
            decoder: Decoder::load(&w, &dimensions.decoder, groups)?,
            encoder: encoder.transpose()?,
            scaling: family.replaced_by(config)?,
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &VaeDimensions {
        &self.dimensions
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        self.dimensions.channels()
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        self.dimensions.factor()
    }

    /// `[b, 3, h, w]`, -1 to 1, to a latent's distribution, `[b, channels, h / factor, w / factor]`, rounded down.
    ///
    /// # Errors
    /// [`Error::NoEncoder`] where it was loaded without, and what [`Inside`] ends the call with.
    pub fn encode(&self, pixels: Tensor<4>, inside: &Inside) -> Result<Posterior, Error> {
        let encoder = self.encoder.as_ref().ok_or(Error::NoEncoder)?;
        Ok(Posterior::of(encoder.forward(pixels, inside)?, self.scaling))
    }

    /// [`Autoencoder::decode`] tile by tile.
    ///
    /// # Errors
    /// As [`Autoencoder::decode`].
    ///
    /// # Panics
    /// If the plan is for a latent of another size.
    pub fn decode_tiled(&self, latent: Tensor<4>, plan: &TilePlan, inside: &Inside) -> Result<Tensor<4>, Error> {
        let [_, _, height, width] = latent.dims();
        assert_eq!([height, width], plan.size(), "a latent of the plan's size");
        plan.assemble(self.factor(), |rows, columns| self.decode(part(&latent, rows, columns), inside))
    }

    /// What decoding takes for each pixel of a latent at most; weights are not counted.
    pub fn decode_cost(&self) -> TileCost {
        let pixels = square(self.factor());
        TileCost {
            working: bytes(self.dimensions.decoder.decoder_held()),
            result: bytes(pixels.saturating_mul(3 * COPIES)),
        }
    }

    /// [`AutoencoderKl::encode`] tile by tile; means and log-variances are blended.
    ///
    /// # Errors
    /// As [`AutoencoderKl::encode`].
    ///
    /// # Panics
    /// If the plan is not for the latent of a picture of this size, or a side is no multiple of the factor.
    pub fn encode_tiled(&self, pixels: Tensor<4>, plan: &TilePlan, inside: &Inside) -> Result<Posterior, Error> {
        let (encoder, factor) = (self.encoder.as_ref().ok_or(Error::NoEncoder)?, self.factor());
        let [_, _, height, width] = pixels.dims();
        assert_eq!([height, width], plan.size().map(|side| side * factor), "a picture of the plan's size");
        let scaled = |range: &Range<usize>| range.start * factor..range.end * factor;
        let moments =
            plan.assemble(1, |rows, columns| encoder.forward(part(&pixels, &scaled(rows), &scaled(columns)), inside))?;
        Ok(Posterior::of(moments, self.scaling))
    }

    /// What encoding takes for each pixel of a latent at most; weights are not counted. `None` without an encoder.
    pub fn encode_cost(&self) -> Option<TileCost> {
        let encoder = self.dimensions.encoder.as_ref()?;
        let moments = 2 * self.channels() as u64;
        Some(TileCost { working: bytes(encoder.encoder_held()), result: bytes(moments.saturating_mul(COPIES)) })
    }
}

impl Autoencoder for AutoencoderKl {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        self.decoder.forward(self.scaling.undo(latent), inside)
    }
}

/// Some rows and columns of `[b, c, h, w]`.
fn part(x: &Tensor<4>, rows: &Range<usize>, columns: &Range<usize>) -> Tensor<4> {
    x.clone().narrow(2, rows.start, rows.len()).narrow(3, columns.start, columns.len())
}

fn square(factor: usize) -> u64 {
    (factor as u64).saturating_mul(factor as u64)
}

/// Of so many f32 values.
fn bytes(values: u64) -> u64 {
    values.saturating_mul(4)
}

impl LatentScaling {
    /// With what a config says in its place.
    ///
    /// # Errors
    /// [`Error::Model`] for a number that can't be computed with.
    pub fn replaced_by(self, config: &VaeConfig) -> Result<Self, Error> {
        Ok(Self {
            scale: as_f32("scaling_factor", config.scaling_factor.unwrap_or(self.scale), f32::is_normal)?,
            shift: as_f32("shift_factor", config.shift_factor.unwrap_or(self.shift), f32::is_finite)?,
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
