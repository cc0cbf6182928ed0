//! AutoencoderKL (Rombach et al. 2022): from a latent to pixels, in Flux eight times as wide and high, and back.

mod any;
mod blocks;
mod decoder;
mod dimensions;
mod encoder;
mod tiles;
mod tiny;

use std::ops::Range;

use core_tensor::{Tensor, Weights};

pub use self::{
    any::{AnyVae, AnyVaeDimensions},
    dimensions::VaeDimensions,
    encoder::Posterior,
    tiles::{Maps, TileCost, TilePlan},
    tiny::{TinyAutoencoder, TinyDimensions},
};
use self::{decoder::Decoder, dimensions::Half, encoder::Encoder};
use crate::{Autoencoder, Error, Inside};

/// An autoencoder of any width and depth; its encoder is loaded where pictures are to be encoded.
#[derive(Debug)]
pub struct AutoencoderKl {
    decoder: Decoder,
    encoder: Encoding,
    dimensions: VaeDimensions,
    scaling: LatentScaling,
}

/// Where the encoder is.
enum Encoding {
    /// There is none.
    Nowhere,
    /// Loaded with the decoder.
    Here(Box<EncoderHalf>),
    /// Loaded whenever pictures are encoded, and let go behind them.
    InFile(Box<LoadEncoder>),
}

type LoadEncoder = dyn Fn() -> Result<EncoderHalf, Error> + Send + Sync;

/// A loaded encoder.
#[derive(Debug)]
pub(crate) struct EncoderHalf {
    layers: Encoder,
    dimensions: Half,
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
        let encoder = dimensions.encoder.as_ref().map(|encoder| EncoderHalf::of(&w, encoder, groups)).transpose()?;
        Ok(Self {
            decoder: Decoder::load(&w, &dimensions.decoder, groups)?,
            encoder: encoder.map_or(Encoding::Nowhere, |encoder| Encoding::Here(Box::new(encoder))),
            scaling: family.replaced_by(config)?,
            dimensions,
        })
    }

    /// The same with an encoder that `load` loads whenever pictures are encoded.
    pub(crate) fn encoding(self, load: impl Fn() -> Result<EncoderHalf, Error> + Send + Sync + 'static) -> Self {
        Self { encoder: Encoding::InFile(Box::new(load)), ..self }
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
    pub fn posterior(&self, pixels: Tensor<4>, inside: &Inside) -> Result<Posterior, Error> {
        self.with_encoder(|encoder| Ok(Posterior::of(encoder.layers.forward(pixels, inside)?, self.scaling)))
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
        plan.assemble(self.factor(), |rows, columns| self.decode_whole(part(&latent, rows, columns), inside))
    }

    fn decode_whole(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        self.decoder.forward(self.scaling.undo(latent), inside)
    }

    /// What decoding takes for each pixel of a latent at most; weights are not counted.
    pub fn decode_cost(&self) -> TileCost {
        self.dimensions.decode_cost()
    }

    /// [`AutoencoderKl::posterior`] tile by tile; means and log-variances are blended.
    ///
    /// # Errors
    /// As [`AutoencoderKl::posterior`].
    ///
    /// # Panics
    /// If the plan is not for the latent of a picture of this size, or a side is no multiple of the factor.
    pub fn posterior_tiled(&self, pixels: Tensor<4>, plan: &TilePlan, inside: &Inside) -> Result<Posterior, Error> {
        let factor = self.factor();
        let [_, _, height, width] = pixels.dims();
        assert_eq!([height, width], plan.size().map(|side| side * factor), "a picture of the plan's size");
        self.with_encoder(|encoder| Ok(Posterior::of(encoder.tiled(&pixels, factor, plan, inside)?, self.scaling)))
    }

    /// What encoding takes for each pixel of a latent at most; weights are not counted. `None` where no encoder is loaded.
    pub fn encode_cost(&self) -> Option<TileCost> {
        match &self.encoder {
            Encoding::Here(encoder) => Some(encoder.dimensions.encode_cost()),
            Encoding::Nowhere | Encoding::InFile(_) => None,
        }
    }

    fn with_encoder<T>(&self, work: impl FnOnce(&EncoderHalf) -> Result<T, Error>) -> Result<T, Error> {
        match &self.encoder {
            Encoding::Nowhere => Err(Error::NoEncoder),
            Encoding::Here(encoder) => work(encoder),
            Encoding::InFile(load) => work(&load()?),
        }
    }
}

impl Autoencoder for AutoencoderKl {
    /// In tiles where there is no [room](Inside::room) for the whole, or where the device takes no tensor as large as the largest map.
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let [b, _, height, width] = latent.dims();
        let widest = self.dimensions.decoder.widest_decoded().saturating_mul(b as u64);
        let by_device = TilePlan::for_device([height, width], widest, &latent.device());
        let by_memory = TilePlan::decoding([height, width], self.decode_cost(), inside.room());
        let plan = by_memory.smaller(by_device);
        if plan.count() == 1 { self.decode_whole(latent, inside) } else { self.decode_tiled(latent, &plan, inside) }
    }

    /// Picture by picture, in tiles where that takes more memory than decoding as large a latent does, or than there is
    /// [room](Inside::room) for.
    fn encode(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let factor = self.factor();
        let [pictures, _, height, width] = pixels.dims();
        for (what, found) in
            [("the width of a picture to encode", width), ("the height of a picture to encode", height)]
        {
            if found == 0 || found % factor != 0 {
                let (expected, found) = (format!("a multiple of {factor}"), found.to_string());
                return Err(Error::Request { what, expected, found });
            }
        }
        let size = [height / factor, width / factor];
        if let Some(noise) = &noise
            && noise.dims() != [pictures, self.channels(), size[0], size[1]]
        {
            let expected = format!("{:?}", [pictures, self.channels(), size[0], size[1]]);
            return Err(Error::Request {
                what: "the noise of an encoded picture",
                expected,
                found: format!("{:?}", noise.dims()),
            });
        }
        self.with_encoder(|encoder| {
            let by_device = TilePlan::for_device(size, encoder.dimensions.widest_encoded(), &pixels.device());
            let (decode_cost, encode_cost) = (self.decode_cost(), encoder.dimensions.encode_cost());
            let plan = TilePlan::encoding(size, decode_cost, encode_cost, inside.room()).smaller(by_device);
            let latent = |picture: usize| {
                let moments = encoder.tiled(&pixels.clone().narrow(0, picture, 1), factor, &plan, inside)?;
                let posterior = Posterior::of(moments, self.scaling);
                Ok(match &noise {
                    Some(noise) => posterior.sample(noise.clone().narrow(0, picture, 1)),
                    None => posterior.mode(),
                })
            };
            Ok(Tensor::cat((0..pictures).map(latent).collect::<Result<_, Error>>()?, 0))
        })
    }
}

impl EncoderHalf {
    /// Loads the encoder alone of a file in the original layout, with or without a prefix.
    pub(crate) fn load(w: &Weights, config: &VaeConfig) -> Result<Self, Error> {
        let dimensions = VaeDimensions::of_both(w, config.groups())?;
        let encoder = dimensions.encoder.as_ref().ok_or(Error::NoEncoder)?;
        let w = w.before(AutoencoderKl::MARK).laid_out(dimensions.layout());
        Self::of(&w, encoder, config.groups())
    }

    fn of(w: &Weights, dimensions: &Half, groups: usize) -> Result<Self, Error> {
        Ok(Self { layers: Encoder::load(w, dimensions, groups)?, dimensions: dimensions.clone() })
    }

    /// Means and log-variances of pictures, tile by tile.
    fn tiled(&self, pixels: &Tensor<4>, factor: usize, plan: &TilePlan, inside: &Inside) -> Result<Tensor<4>, Error> {
        let scaled = |range: &Range<usize>| range.start * factor..range.end * factor;
        plan.assemble(1, |rows, columns| self.layers.forward(part(pixels, &scaled(rows), &scaled(columns)), inside))
    }
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "Nowhere",
            Self::Here(_) => "Here",
            Self::InFile(_) => "InFile",
        })
    }
}

/// Some rows and columns of `[b, c, h, w]`.
fn part(x: &Tensor<4>, rows: &Range<usize>, columns: &Range<usize>) -> Tensor<4> {
    x.clone().narrow(2, rows.start, rows.len()).narrow(3, columns.start, columns.len())
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
