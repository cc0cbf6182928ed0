//! ESRGAN's network of residual-in-residual dense blocks.
//!
//! Reference: basicsr/archs/rrdbnet_arch.py (Wang et al. 2018), with Real-ESRGAN's pixels as channels before it, and the two further
//! paths of ESRGAN+ (Rakotonirina and Rasoanaivo 2020) where a file has them.

use core_tensor::{Device, Layout, Tensor, Weights, layers::Conv2d, ops};
use diffusion_engine::{Error as RunError, Inside, Site};

use crate::{
    Cost, Error, Lie,
    names::SHARE,
    network::{BODY, MAX_FACTOR, NETWORK, Said, Watch},
    rearranged::pixels_as_channels,
};

/// What values below zero are multiplied with.
const SLOPE: f32 = 0.2; // basicsr/archs/rrdbnet_arch.py, every LeakyReLU

/// The context of the deepest networks.
const MOST_CONTEXT: usize = 96;

/// The three blocks of a group.
const DENSE: [&str; 3] = ["rdb1", "rdb2", "rdb3"];

/// Dimensions, all of them read off the tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RrdbDimensions {
    /// Channels between the blocks.
    features: usize,
    /// Channels that each layer of a block adds.
    growth: usize,
    /// Groups of three blocks.
    groups: usize,
    /// How often height and width are doubled behind them.
    doublings: usize,
    /// The side of the squares of pixels that become channels before them.
    square: usize,
    /// Whether blocks have the paths of ESRGAN+.
    has_paths: bool,
}

impl RrdbDimensions {
    /// Reads them off a file under BasicSR's names.
    pub(crate) fn of(w: &Weights) -> Result<Self, Error> {
        let source_name = || w.label().to_owned();
        let [features, input, ..] = w.dims::<4>("conv_first.weight")?;
        let [output, ..] = w.dims::<4>("conv_last.weight")?;
        let [growth, ..] = w.dims::<4>("body.0.rdb1.conv1.weight")?;
        let doublings = (1..).take_while(|i| w.shape(&format!("conv_up{i}.weight")).is_some()).count();
        let square = match (input, output) {
            (3, 3) => 1,
            (12, 3) => 2,
            (48, 3) => 4,
            _ => return Err(Error::Channels { source_name: source_name(), input, output }),
        };
        let groups = w.at("body").depth()?;
        let has_paths = w.shape("body.0.rdb1.conv1x1.weight").is_some();
        let dimensions = Self { features, growth, groups, doublings, square, has_paths };
        match dimensions.doublings <= MAX_FACTOR.ilog2() as usize && (1 << dimensions.doublings) >= square {
            true => Ok(dimensions),
            false => {
                let what =
                    format!("its layers double a picture {doublings} times, and it reads squares of {square} pixels");
                Err(Error::Factor { source_name: source_name(), what })
            }
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let &Self { features, growth, groups, doublings, square, has_paths } = self;
        Layout::of(|l| {
            l.convolution("conv_first", 3 * square * square, features, 3);
            for group in 0..groups {
                for dense in DENSE {
                    let mut l = l.at(format!("body.{group}.{dense}"));
                    let read = |layer: usize| features.saturating_add(growth.saturating_mul(layer));
                    (0..4).for_each(|layer| l.convolution(format!("conv{}", layer + 1), read(layer), growth, 3));
                    l.convolution("conv5", read(4), features, 3);
                    if has_paths {
                        l.unbiased_convolution("conv1x1", features, growth, 1);
                    }
                }
            }
            l.convolution("conv_body", features, features, 3);
            (1..=doublings).for_each(|i| l.convolution(format!("conv_up{i}"), features, features, 3));
            l.convolution("conv_hr", features, features, 3);
            l.convolution("conv_last", features, 3, 3);
        })
    }
}

impl Said for RrdbDimensions {
    fn factor(&self) -> usize {
        (1 << self.doublings) / self.square
    }

    /// How its tiles lie. Each of a group's fifteen layers sees one pixel further; of deep networks what is furthest hardly counts.
    fn lie(&self) -> Lie {
        let context = (15 * self.groups + 4).min(MOST_CONTEXT) * self.square;
        Lie { square: self.square, context }
    }

    fn blocks(&self) -> usize {
        self.groups
    }

    fn about(&self) -> String {
        let plus = if self.has_paths { "+" } else { "" };
        format!("ESRGAN{plus}, {} groups of {} channels", self.groups, self.features)
    }

    fn cost(&self, packed: fn(u64) -> u64) -> Cost {
        let [features, growth] = [self.features, self.growth].map(|n| n as u64);
        // In a group: its input, a block's input and that with all that the block's layers have added, twice while it grows.
        let grown = features.saturating_add(growth.saturating_mul(4));
        let inside = features.saturating_mul(6).saturating_add(growth.saturating_mul(8)).saturating_add(packed(grown));
        // Behind them the last doubled map, what is packed of it and what a layer makes of it.
        let pixels = 1 << (2 * self.doublings);
        let behind =
            features.saturating_mul(2).saturating_add(packed(features)).saturating_add(8).saturating_mul(pixels);
        let values = inside.max(behind) / (self.square * self.square) as u64;
        let result = 6 * (self.factor() * self.factor()) as u64;
        Cost::of_values(values.saturating_add(6 + result), self.factor())
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Rrdb {
    conv_first: Conv2d,
    body: Vec<[DenseBlock; 3]>,
    conv_body: Conv2d,
    conv_up: Vec<Conv2d>,
    conv_hr: Conv2d,
    conv_last: Conv2d,
    slopes: Tensor<1>,
    square: usize,
}

impl Rrdb {
    /// Loads the network of these dimensions, which are those of the view.
    pub(crate) fn load(w: &Weights, dimensions: &RrdbDimensions) -> Result<Self, Error> {
        let w = w.laid_out(dimensions.layout());
        let conv = |name: &str| Conv2d::load(&w.at(name));
        let dense = |group: usize, name: &str| DenseBlock::load(&w.at("body").at(group).at(name), dimensions);
        let group = |group| -> Result<_, Error> {
            let [first, second, third] = DENSE;
            Ok([dense(group, first)?, dense(group, second)?, dense(group, third)?])
        };
        Ok(Self {
            conv_first: conv("conv_first")?,
            body: (0..dimensions.groups).map(group).collect::<Result<_, _>>()?,
            conv_body: conv("conv_body")?,
            conv_up: (1..=dimensions.doublings).map(|i| conv(&format!("conv_up{i}"))).collect::<Result<_, _>>()?,
            conv_hr: conv("conv_hr")?,
            conv_last: conv("conv_last")?,
            slopes: slopes(dimensions.features, w.device()),
            square: dimensions.square,
        })
    }

    /// `[1, 3, h, w]`, 0 to 1, to `[1, 3, h · factor, w · factor]`.
    pub(crate) fn forward(&self, x: Tensor<4>, inside: &Inside, watch: Watch) -> Result<Tensor<4>, RunError> {
        let size = [x.dims()[2], x.dims()[3]].map(|side| (side << self.conv_up.len()) / self.square);
        let first = self.conv_first.forward(pixels_as_channels(x, self.square));
        let mut x = first.clone();
        for (i, [one, two, three]) in self.body.iter().enumerate() {
            let inner = two.forward(one.forward(x.clone()));
            // Of the group too a fifth counts: its last block's weights have both shares.
            let kept = ops::add_maps(x, inner.clone() * SHARE);
            x = three.forward_onto(inner, kept);
            x = inside.after_map(Site::block(NETWORK, BODY, i), x)?;
            watch();
        }
        let x = self.conv_body.forward_onto(x, first);
        let x = self.conv_up.iter().enumerate().try_fold(x, |x, (i, conv)| {
            let x = conv.forward_rectified(ops::upsample_nearest_2x(x), None, &self.slopes);
            inside.after_map(Site::block(NETWORK, "conv_up", i), x)
        })?;
        let x = self.conv_hr.forward_rectified(x, None, &self.slopes);
        // Without what came of the pixels that squares were filled up with.
        Ok(self.conv_last.forward(x).narrow(2, 0, size[0]).narrow(3, 0, size[1]))
    }
}

/// Four layers of which each reads what all before it have made, and one that makes what is added.
#[derive(Debug)]
struct DenseBlock {
    conv: [Conv2d; 4],
    conv5: Conv2d,
    conv1x1: Option<Conv2d>,
    slopes: Tensor<1>,
}

impl DenseBlock {
    fn load(w: &Weights, dimensions: &RrdbDimensions) -> Result<Self, Error> {
        let conv = |name: &str| Conv2d::load(&w.at(name));
        Ok(Self {
            conv: [conv("conv1")?, conv("conv2")?, conv("conv3")?, conv("conv4")?],
            conv5: conv("conv5")?,
            conv1x1: dimensions.has_paths.then(|| conv("conv1x1")).transpose()?,
            slopes: slopes(dimensions.growth, w.device()),
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_onto(x.clone(), x)
    }

    /// What the block adds to its input `x`, added to this instead.
    fn forward_onto(&self, x: Tensor<4>, onto: Tensor<4>) -> Tensor<4> {
        let [conv1, conv2, conv3, conv4] = &self.conv;
        let layer = |conv: &Conv2d, x: &Tensor<4>| conv.forward_rectified(x.clone(), None, &self.slopes);
        let first = layer(conv1, &x);
        let path = self.conv1x1.as_ref().map(|conv| (conv, x.clone()));
        let x = ops::join_channels(x, first);
        let second = match path {
            Some((conv, x1)) => conv.forward_onto(x1, layer(conv2, &x)),
            None => layer(conv2, &x),
        };
        let path = self.conv1x1.is_some().then(|| second.clone());
        let x = ops::join_channels(x, second);
        let third = layer(conv3, &x);
        let x = ops::join_channels(x, third);
        let fourth = layer(conv4, &x);
        let fourth = match path {
            Some(second) => ops::add_maps(fourth, second),
            None => fourth,
        };
        self.conv5.forward_onto(ops::join_channels(x, fourth), onto)
    }
}

fn slopes(channels: usize, device: &Device) -> Tensor<1> {
    Tensor::full([channels], SLOPE, device)
}
