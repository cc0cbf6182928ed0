//! Real-ESRGAN's compact network: convolutions at the picture's own size, and pixels of their last channels.
//!
//! Reference: realesrgan/archs/srvgg_arch.py (`SRVGGNetCompact`), whose names these are.

use core_tensor::{Layout, Tensor, Weights, in_f32, layers::Conv2d};
use diffusion_engine::{Error as RunError, Inside, Site};

use crate::{
    Cost, Error, Lie,
    network::{BODY, MAX_FACTOR, NETWORK, Said, Watch},
    rearranged::{channels_as_pixels, repeated},
};

/// Dimensions, all of them read off the tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactDimensions {
    /// Channels between the convolutions.
    features: usize,
    /// Convolutions that are followed by a rectifier.
    layers: usize,
    factor: usize,
}

impl CompactDimensions {
    /// Reads them off a file, whose names begin with `body`.
    pub(crate) fn of(w: &Weights) -> Result<Self, Error> {
        let source_name = || w.label().to_owned();
        let [features, input, ..] = w.dims::<4>("body.0.weight")?;
        // Convolutions and rectifiers take turns, and the last is a convolution.
        let layers = (w.at("body").depth()? / 2).max(1);
        let [output, ..] = w.dims::<4>(&format!("body.{}.weight", 2 * layers))?;
        let factor = (1..=MAX_FACTOR).find(|factor| 3 * factor * factor == output);
        match factor {
            _ if input != 3 => Err(Error::Channels { source_name: source_name(), input, output }),
            Some(factor) => Ok(Self { features, layers, factor }),
            None => {
                let what =
                    format!("its last layer makes {output} channels, which are no squares of red, green and blue");
                Err(Error::Factor { source_name: source_name(), what })
            }
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let &Self { features, layers, factor } = self;
        Layout::of(|l| {
            for i in 0..layers {
                l.convolution(format!("body.{}", 2 * i), if i == 0 { 3 } else { features }, features, 3);
                l.parameter(format!("body.{}.weight", 2 * i + 1), &[features]);
            }
            l.convolution(format!("body.{}", 2 * layers), features, 3 * factor * factor, 3);
        })
    }
}

impl Said for CompactDimensions {
    fn factor(&self) -> usize {
        self.factor
    }

    /// How its tiles lie: each of its convolutions sees one pixel further.
    fn lie(&self) -> Lie {
        Lie { square: 1, context: self.layers + 1 }
    }

    fn blocks(&self) -> usize {
        self.layers
    }

    fn about(&self) -> String {
        format!("Real-ESRGAN compact, {} layers of {} channels", self.layers + 1, self.features)
    }

    fn cost(&self, packed: fn(u64) -> u64) -> Cost {
        let (features, result) = (self.features as u64, 3 * (self.factor * self.factor) as u64);
        // Two maps while it computes and what is packed of one, and at the end one and the result as channels, as pixels, and with what is added.
        let values = features
            .saturating_mul(2)
            .saturating_add(packed(features))
            .max(features.saturating_add(result))
            .max(3 * result);
        Cost::of_values(values.saturating_add(6), self.factor)
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Compact {
    layers: Vec<(Conv2d, Tensor<1>)>,
    last: Conv2d,
    factor: usize,
}

impl Compact {
    /// Loads the network of these dimensions, which are those of the view.
    pub(crate) fn load(w: &Weights, dimensions: &CompactDimensions) -> Result<Self, Error> {
        let w = w.laid_out(dimensions.layout()).at("body");
        let layer = |i: usize| -> Result<_, Error> {
            Ok((Conv2d::load(&w.at(2 * i))?, w.at(2 * i + 1).parameter::<1>("weight")?.value()))
        };
        Ok(Self {
            layers: (0..dimensions.layers).map(layer).collect::<Result<_, _>>()?,
            last: Conv2d::load(&w.at(2 * dimensions.layers))?,
            factor: dimensions.factor,
        })
    }

    /// `[1, 3, h, w]`, 0 to 1, to `[1, 3, h · factor, w · factor]`.
    pub(crate) fn forward(&self, x: Tensor<4>, inside: &Inside, watch: Watch) -> Result<Tensor<4>, RunError> {
        let h = self.layers.iter().enumerate().try_fold(x.clone(), |h, (i, (conv, slopes))| {
            let h = inside.after_map(Site::block(NETWORK, BODY, i), conv.forward_rectified(h, None, slopes))?;
            watch();
            Ok::<_, RunError>(h)
        })?;
        let added = channels_as_pixels(in_f32(self.last.forward(h)), self.factor);
        Ok(added + repeated(x, self.factor))
    }
}
