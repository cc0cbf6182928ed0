//! Tiny autoencoders, TAESD, TAESDXL and TAEF1: a hundredth of an autoencoder's work for a picture that is nearly its own.
//!
//! Reference: diffusers `AutoencoderTiny`, 0.42, whose parameter names these are.

use core_tensor::{Device, Layout, Tensor, Weights, layers::Conv2d, ops, packed_channels};

use crate::{Autoencoder, Error, Inside, Site, Size};

/// A tiny autoencoder; of files that hold a decoder alone, without an encoder. It knows no distribution, and its latents are those
/// that a model denoises, without a scaling.
#[derive(Debug)]
pub struct TinyAutoencoder {
    decoder: Layers,
    encoder: Option<Layers>,
    dimensions: TinyDimensions,
}

/// How large a tiny autoencoder is, as its tensors say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TinyDimensions {
    decoder: Half,
    encoder: Option<Half>,
}

/// One half: its layers in turn, each with its number in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Half {
    layers: Vec<(usize, Layer)>,
    /// Channels between the layers.
    width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// At one resolution.
    Convolution { c_in: usize, c_out: usize },
    /// To the next resolution.
    Resampling,
    /// Three convolutions beside the identity.
    Block,
}

/// The highest number of a layer that is looked for; the largest known is 19.
const MOST_LAYERS: usize = 64;

/// Latents beyond this are bent towards it.
const MAGNITUDE: f64 = 3.0; // diffusers DecoderTiny

/// The three convolutions of a block.
const INNER: [&str; 3] = ["conv.0", "conv.2", "conv.4"];

impl TinyDimensions {
    /// Reads the dimensions off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing, or layers that make no autoencoder.
    pub fn of(w: &Weights) -> Result<Self, Error> {
        let decoder = Half::of(&w.at("decoder.layers"))?;
        let encoder = w.shape("encoder.layers.0.weight").map(|_| Half::of(&w.at("encoder.layers"))).transpose()?;
        let dimensions = Self { decoder, encoder };
        let expect = |what, expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => Err(Error::Model { what, expected: expected.to_string(), found: found.to_string() }),
        };
        expect("the colours that a tiny decoder makes", 3, dimensions.decoder.ends()[1])?;
        if let Some(encoder) = &dimensions.encoder {
            let [colours, channels] = encoder.ends();
            expect("the colours that a tiny encoder reads", 3, colours)?;
            expect("the channels that a tiny encoder makes", dimensions.channels(), channels)?;
            expect("how often a tiny encoder halves", dimensions.decoder.resamplings(), encoder.resamplings())?;
        }
        Ok(dimensions)
    }

    /// Whether a view has a tiny decoder, under diffusers' names.
    pub fn are_of(w: &Weights) -> bool {
        w.shape(TinyAutoencoder::MARK).is_some()
    }

    /// Whether there is an encoder.
    pub fn has_encoder(&self) -> bool {
        self.encoder.is_some()
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        self.decoder.ends()[0]
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        1 << self.decoder.resamplings()
    }

    /// Every tensor of such an autoencoder, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        Layout::of(|l| {
            let halves = [("decoder.layers", Some(&self.decoder)), ("encoder.layers", self.encoder.as_ref())];
            for (name, half) in halves.into_iter().filter_map(|(name, half)| Some((name, half?))) {
                let (mut l, width) = (l.at(name), half.width);
                for &(number, layer) in &half.layers {
                    match layer {
                        Layer::Convolution { c_in, c_out } => l.convolution(number, c_in, c_out, 3),
                        Layer::Resampling => l.unbiased_convolution(number, width, width, 3),
                        Layer::Block => {
                            INNER.iter().for_each(|inner| l.convolution(format!("{number}.{inner}"), width, width, 3));
                        }
                    }
                }
            }
        })
    }

    /// Bytes that decoding a latent of this height and width takes at most; weights are not counted.
    pub fn decoding_bytes(&self, latent: [usize; 2]) -> u64 {
        self.half_bytes(&self.decoder, latent)
    }

    /// Bytes that encoding a picture to a latent of this height and width takes at most; weights are not counted. 0 without an encoder.
    pub fn encoding_bytes(&self, latent: [usize; 2]) -> u64 {
        self.encoder.as_ref().map_or(0, |encoder| self.half_bytes(encoder, latent))
    }

    fn half_bytes(&self, half: &Half, [height, width]: [usize; 2]) -> u64 {
        let pixels = [height, width, self.factor(), self.factor()];
        let pixels = pixels.iter().fold(1u64, |n, &by| n.saturating_mul(by as u64));
        // Of the finest maps a block's input, what it has made of it, what it makes now and what it packs; then the picture.
        let width = half.width as u64;
        let values = width.saturating_mul(3).saturating_add(packed_channels(width)).saturating_add(9);
        pixels.saturating_mul(values).saturating_mul(4)
    }
}

impl Half {
    /// The layers under these names.
    fn of(w: &Weights) -> Result<Self, Error> {
        let mut layers = Vec::new();
        for number in 0..MOST_LAYERS {
            let l = w.at(number);
            if l.shape("weight").is_some() {
                let [c_out, c_in, ..] = l.dims::<4>("weight")?;
                let is_biased = l.shape("bias").is_some();
                layers.push((number, if is_biased { Layer::Convolution { c_in, c_out } } else { Layer::Resampling }));
            } else if l.shape("conv.0.weight").is_some() {
                layers.push((number, Layer::Block));
            }
        }
        let is_end = |layer: Option<&(usize, Layer)>| matches!(layer, Some((_, Layer::Convolution { .. })));
        let inner = layers.get(1..layers.len().saturating_sub(1)).unwrap_or_default();
        if !is_end(layers.first()) || !is_end(layers.last()) || inner.iter().any(|layer| is_end(Some(layer))) {
            let expected = "convolutions at both ends, and blocks between".to_owned();
            let found = format!("{} layers under `{}`", layers.len(), w.prefix().trim_end_matches('.'));
            return Err(Error::Model { what: "a tiny autoencoder", expected, found });
        }
        let width = match layers[0].1 {
            Layer::Convolution { c_out, .. } => c_out,
            Layer::Resampling | Layer::Block => 0,
        };
        let half = Self { layers, width };
        let (most, found) = (Size::MAX.ilog2() as usize, half.resamplings());
        if found > most {
            let expected = format!("at most {most}");
            return Err(Error::Model {
                what: "how often a tiny autoencoder doubles",
                expected,
                found: found.to_string(),
            });
        }
        Ok(half)
    }

    /// Channels that come in, and those that go out.
    fn ends(&self) -> [usize; 2] {
        let channels = |layer: Option<&(usize, Layer)>| match layer {
            Some(&(_, Layer::Convolution { c_in, c_out })) => [c_in, c_out],
            Some((_, Layer::Resampling | Layer::Block)) | None => [0, 0],
        };
        [channels(self.layers.first())[0], channels(self.layers.last())[1]]
    }

    fn resamplings(&self) -> usize {
        self.layers.iter().filter(|(_, layer)| *layer == Layer::Resampling).count()
    }
}

impl TinyAutoencoder {
    /// A tensor that every tiny decoder has.
    pub const MARK: &str = "decoder.layers.0.weight";

    /// Loads what a view has under diffusers' names, the encoder where there is one.
    ///
    /// # Errors
    /// As [`TinyDimensions::of`], or a tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights) -> Result<Self, Error> {
        let dimensions = TinyDimensions::of(w)?;
        let w = w.laid_out(dimensions.layout());
        let layers = |name: &str, half: &Half, stride| Layers::load(&w.at(name), half, stride);
        Ok(Self {
            decoder: layers("decoder.layers", &dimensions.decoder, 1)?,
            encoder: (dimensions.encoder.as_ref()).map(|half| layers("encoder.layers", half, 2)).transpose()?,
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &TinyDimensions {
        &self.dimensions
    }
}

impl Autoencoder for TinyAutoencoder {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let x = (latent / MAGNITUDE).tanh() * MAGNITUDE;
        Ok(self.decoder.forward(x, "decoder", inside)? * 2.0 - 1.0)
    }

    /// Picture by picture.
    fn encode(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>, inside: &Inside) -> Result<Tensor<4>, Error> {
        // There is one latent, whatever noise would pick.
        drop(noise);
        let encoder = self.encoder.as_ref().ok_or(Error::NoEncoder)?;
        let ([pictures, _, height, width], factor) = (pixels.dims(), self.dimensions.factor());
        for (what, found) in
            [("the width of a picture to encode", width), ("the height of a picture to encode", height)]
        {
            if found == 0 || found % factor != 0 {
                let (expected, found) = (format!("a multiple of {factor}"), found.to_string());
                return Err(Error::Request { what, expected, found });
            }
        }
        let latent = |picture: usize| {
            let pixels = pixels.clone().narrow(0, picture, 1);
            encoder.forward((pixels + 1.0) / 2.0, "encoder", inside)
        };
        Ok(Tensor::cat((0..pictures).map(latent).collect::<Result<_, Error>>()?, 0))
    }
}

/// One half, loaded.
#[derive(Debug)]
struct Layers {
    layers: Vec<(usize, Loaded)>,
    /// What rectifiers leave of values below zero: nothing.
    slopes: Tensor<1>,
    doubles: bool,
}

#[derive(Debug)]
enum Loaded {
    Convolution(Conv2d),
    Resampling(Conv2d),
    Block(Box<[Conv2d; 3]>),
}

impl Layers {
    /// `stride` is that of the convolutions between two resolutions; those of a decoder follow a doubling.
    fn load(w: &Weights, half: &Half, stride: usize) -> Result<Self, Error> {
        let conv = |name: &str| Conv2d::load(&w.at(name));
        let layer = |&(number, layer): &(usize, Layer)| -> Result<_, Error> {
            let [first, second, third] = INNER.map(|inner| format!("{number}.{inner}"));
            let loaded = match layer {
                Layer::Convolution { .. } => Loaded::Convolution(conv(&number.to_string())?),
                Layer::Resampling => Loaded::Resampling(conv(&number.to_string())?.strided(stride)),
                Layer::Block => Loaded::Block(Box::new([conv(&first)?, conv(&second)?, conv(&third)?])),
            };
            Ok((number, loaded))
        };
        Ok(Self {
            layers: half.layers.iter().map(layer).collect::<Result<_, _>>()?,
            slopes: zeros(half.width, w.device()),
            doubles: stride == 1,
        })
    }

    fn forward(&self, x: Tensor<4>, network: &'static str, inside: &Inside) -> Result<Tensor<4>, Error> {
        let rectified = |conv: &Conv2d, x, residual| conv.forward_rectified(x, residual, &self.slopes);
        self.layers.iter().enumerate().try_fold(x, |x, (place, (number, layer))| {
            let x = match layer {
                // A decoder's first convolution is followed by a rectifier.
                Loaded::Convolution(conv) if place == 0 && self.doubles => rectified(conv, x, None),
                Loaded::Convolution(conv) => conv.forward(x),
                Loaded::Resampling(conv) if self.doubles => conv.forward(ops::upsample_nearest_2x(x)),
                Loaded::Resampling(conv) => conv.forward(x),
                Loaded::Block(convs) => {
                    let [first, second, third] = &**convs;
                    let inner = rectified(second, rectified(first, x.clone(), None), None);
                    rectified(third, inner, Some(x))
                }
            };
            inside.after_map(Site::block(network, "layers", *number), x)
        })
    }
}

fn zeros(channels: usize, device: &Device) -> Tensor<1> {
    Tensor::zeros([channels], device)
}
