//! SwinIR: groups of transformer blocks that pay attention within windows, between convolutions.
//!
//! Reference: models/network_swinir.py (Liang et al. 2021), whose names these are. Each second block's windows are moved by half their side.

use core_tensor::{
    Layout, Tensor, Weights, in_f32, in_format_of,
    layers::{Conv2d, LayerNorm, Linear},
    ops::{self, Activation},
    tensor, values,
};
use diffusion_engine::{Error as RunError, Inside, Site};

use crate::{
    Cost, Error, Lie,
    network::{BODY, MAX_FACTOR, NETWORK, Said, Watch},
    rearranged::{channels_as_pixels, mirrored},
    windows::{Masks, Windows, biases},
};

/// What is subtracted from red, green and blue.
const MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040]; // models/network_swinir.py, that of DIV2K

/// What values below zero are multiplied with between a group's convolutions and while a picture is doubled.
const SLOPE: f32 = 0.2; // models/network_swinir.py, `3conv` and `nearest+conv`

/// The same before the picture is made larger.
const SLOPE_BEFORE: f32 = 0.01; // torch.nn.LeakyReLU

const EPS: f64 = 1e-5; // torch.nn.LayerNorm

/// The side of the windows of networks against the traces of JPEG, which alone count colours to 255.
const JPEG_WINDOW: usize = 7; // main_test_swinir.py

/// The largest window whose table is read; the largest known is 16.
const MAX_WINDOW: usize = 32;

/// The context of its tiles, in pixels: attention sees much further, and what is furthest hardly counts.
const MOST_CONTEXT: usize = 48;

/// Scores that are in memory at once, unless one window has more.
const SCORES: usize = 1 << 18;

/// Dimensions, all of them read off the tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwinIrDimensions {
    channels: usize,
    /// Channels between the two layers that follow attention.
    hidden: usize,
    /// The side of a window, pixels.
    window: usize,
    /// Heads and blocks of each group.
    groups: Vec<[usize; 2]>,
    /// Whether each group ends in three narrow convolutions in the place of one.
    is_narrow: bool,
    end: End,
}

/// How the picture is made larger behind the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Convolutions, each followed by channels as squares of pixels.
    Shuffled { features: usize, squares: Vec<usize> },
    /// One such that makes colours at once.
    Direct { factor: usize },
    /// Pixels are doubled so often, and what comes of it convolved.
    Doubled { features: usize, doublings: usize },
    /// Not at all: what is wrong with it is added to the picture.
    Same,
}

impl End {
    fn factor(&self) -> usize {
        match self {
            Self::Shuffled { squares, .. } => squares.iter().product(),
            Self::Direct { factor } => *factor,
            Self::Doubled { doublings, .. } => 1 << doublings,
            Self::Same => 1,
        }
    }

    fn of(w: &Weights) -> Result<Self, Error> {
        let wrong = |what: String| Error::Factor { source_name: w.label().to_owned(), what };
        let end = if w.shape("conv_before_upsample.0.weight").is_some() {
            let [features, ..] = w.dims::<4>("conv_before_upsample.0.weight")?;
            if w.shape("conv_up1.weight").is_some() {
                let doublings = (1..).take_while(|i| w.shape(&format!("conv_up{i}.weight")).is_some()).count();
                if doublings > MAX_FACTOR.ilog2() as usize {
                    return Err(wrong(format!("its layers double a picture {doublings} times")));
                }
                Self::Doubled { features, doublings }
            } else {
                let mut squares = Vec::new();
                // A convolution and what makes pixels of its channels take turns.
                while w.shape(&format!("upsample.{}.weight", 2 * squares.len())).is_some() {
                    let [output, ..] = w.dims::<4>(&format!("upsample.{}.weight", 2 * squares.len()))?;
                    let square =
                        [2, 3].into_iter().find(|square| features.checked_mul(square * square) == Some(output));
                    let square = square.ok_or_else(|| {
                        wrong(format!("a layer makes {output} channels of {features}, which are no squares of pixels"))
                    })?;
                    squares.push(square);
                    if squares.iter().product::<usize>() > MAX_FACTOR {
                        return Err(wrong(format!(
                            "its layers make a picture {} times larger",
                            squares.iter().product::<usize>()
                        )));
                    }
                }
                Self::Shuffled { features, squares }
            }
        } else if w.shape("upsample.0.weight").is_some() {
            let [output, ..] = w.dims::<4>("upsample.0.weight")?;
            let factor = (1..=MAX_FACTOR).find(|factor| 3 * factor * factor == output);
            let no_squares = || {
                wrong(format!("its last layer makes {output} channels, which are no squares of red, green and blue"))
            };
            Self::Direct { factor: factor.ok_or_else(no_squares)? }
        } else {
            Self::Same
        };
        let [input, output] = [w.dims::<4>("conv_first.weight")?[1], end.output(w)?];
        match (input, output) {
            (3, 3) => Ok(end),
            _ => Err(Error::Channels { source_name: w.label().to_owned(), input, output }),
        }
    }

    /// Colours that are made.
    fn output(&self, w: &Weights) -> Result<usize, Error> {
        match self {
            Self::Direct { .. } => Ok(3),
            Self::Shuffled { .. } | Self::Doubled { .. } | Self::Same => Ok(w.dims::<4>("conv_last.weight")?[0]),
        }
    }

    fn declare(&self, l: &mut core_tensor::Declare, channels: usize) {
        match self {
            Self::Shuffled { features, squares } => {
                l.convolution("conv_before_upsample.0", channels, *features, 3);
                for (i, square) in squares.iter().enumerate() {
                    l.convolution(format!("upsample.{}", 2 * i), *features, features * square * square, 3);
                }
                l.convolution("conv_last", *features, 3, 3);
            }
            Self::Direct { factor } => l.convolution("upsample.0", channels, 3 * factor * factor, 3),
            Self::Doubled { features, doublings } => {
                l.convolution("conv_before_upsample.0", channels, *features, 3);
                (1..=*doublings).for_each(|i| l.convolution(format!("conv_up{i}"), *features, *features, 3));
                l.convolution("conv_hr", *features, *features, 3);
                l.convolution("conv_last", *features, 3, 3);
            }
            Self::Same => l.convolution("conv_last", channels, 3, 3),
        }
    }

    /// Values for each pixel of the picture while it is made larger.
    fn values(&self) -> u64 {
        let factor = self.factor() as u64;
        match self {
            // The last square's map as channels and as pixels, and what is convolved of it.
            Self::Shuffled { features, squares: _ } | Self::Doubled { features, doublings: _ } => {
                (*features as u64).saturating_mul(3 * factor * factor)
            }
            Self::Direct { .. } => 6 * factor * factor,
            Self::Same => 6,
        }
    }
}

impl SwinIrDimensions {
    /// Reads them off a file.
    pub(crate) fn of(w: &Weights) -> Result<Self, Error> {
        let source_name = || w.label().to_owned();
        let block = |group: usize, block: usize| w.at("layers").at(group).at("residual_group.blocks").at(block);
        let [channels, ..] = w.dims::<4>("conv_first.weight")?;
        let [hidden, _] = block(0, 0).dims::<2>("mlp.fc1.weight")?;
        let mut groups = Vec::new();
        let mut window = 0;
        for group in 0..w.at("layers").depth()? {
            let [distances, heads] = block(group, 0).dims::<2>(&format!("attn.{TABLE}"))?;
            // A group without blocks has no table.
            let blocks = w.at("layers").at(group).at("residual_group.blocks").depth()?;
            window = (1..=MAX_WINDOW).find(|side| (2 * side - 1).pow(2) == distances).unwrap_or(0);
            if window == 0 || !channels.is_multiple_of(heads) {
                let what = format!("group {group} has {heads} heads of {channels} channels and {distances} distances");
                return Err(Error::Windows { source_name: source_name(), what });
            }
            groups.push([heads, blocks]);
        }
        let is_narrow = w.shape("conv_after_body.0.weight").is_some();
        let end = End::of(w)?;
        Ok(Self { channels, hidden, window, groups, is_narrow, end })
    }

    /// What it keeps beside its weights, in bytes: each block's bias for each pair of a window.
    pub(crate) fn kept(&self) -> u64 {
        let pairs = self.window.pow(4) as u64;
        let heads = self.groups.iter().map(|[heads, blocks]| (heads * blocks) as u64);
        heads.fold(0, u64::saturating_add).saturating_mul(4 * pairs)
    }

    pub(crate) fn layout(&self) -> Layout {
        let &Self { channels, hidden, window, is_narrow, .. } = self;
        let convolutions = |l: &mut core_tensor::Declare, name: String| match is_narrow {
            false => l.convolution(name, channels, channels, 3),
            true => {
                l.convolution(format!("{name}.0"), channels, channels / 4, 3);
                l.convolution(format!("{name}.2"), channels / 4, channels / 4, 1);
                l.convolution(format!("{name}.4"), channels / 4, channels, 3);
            }
        };
        Layout::of(|l| {
            l.convolution("conv_first", 3, channels, 3);
            l.norm("patch_embed.norm", channels);
            for (group, [heads, blocks]) in self.groups.iter().enumerate() {
                for block in 0..*blocks {
                    let mut l = l.at(format!("layers.{group}.residual_group.blocks.{block}"));
                    l.norm("norm1", channels);
                    l.linear("attn.qkv", channels, channels.saturating_mul(3));
                    l.parameter(format!("attn.{TABLE}"), &[(2 * window - 1).pow(2), *heads]);
                    l.linear("attn.proj", channels, channels);
                    l.norm("norm2", channels);
                    l.linear("mlp.fc1", channels, hidden);
                    l.linear("mlp.fc2", hidden, channels);
                }
                convolutions(l, format!("layers.{group}.conv"));
            }
            l.norm("norm", channels);
            convolutions(l, "conv_after_body".to_owned());
            self.end.declare(l, channels);
        })
    }
}

impl Said for SwinIrDimensions {
    fn factor(&self) -> usize {
        self.end.factor()
    }

    /// How its tiles lie: their windows are those of the whole picture.
    fn lie(&self) -> Lie {
        let context = (self.blocks() * self.window).min(MOST_CONTEXT);
        Lie { square: self.window, context }
    }

    fn blocks(&self) -> usize {
        self.groups.iter().map(|[_, blocks]| blocks).sum()
    }

    fn about(&self) -> String {
        format!("SwinIR, {} groups of {} channels", self.groups.len(), self.channels)
    }

    fn cost(&self, packed: fn(u64) -> u64) -> Cost {
        let [channels, hidden] = [self.channels, self.hidden].map(|n| n as u64);
        // Behind the first convolution: that, a group's and a block's inputs, and while rows of windows are put together two more, or
        // what is between the layers that follow.
        let inside = channels.saturating_mul(5).saturating_add(hidden.max(channels.saturating_mul(2)));
        let behind = self.end.values().saturating_add(channels).saturating_add(packed(channels));
        let result = 6 * (self.factor() * self.factor()) as u64;
        Cost::of_values(inside.max(behind).saturating_add(6 + result), self.factor())
    }
}

/// How each distance's bias is called.
const TABLE: &str = "relative_position_bias_table";

/// The network.
#[derive(Debug)]
pub(crate) struct SwinIr {
    conv_first: Conv2d,
    norm_first: LayerNorm,
    groups: Vec<Group>,
    norm: LayerNorm,
    conv_after_body: Convolutions,
    enlarging: Enlarging,
    window: usize,
}

impl SwinIr {
    /// Loads the network of these dimensions, which are those of the view.
    pub(crate) fn load(w: &Weights, dimensions: &SwinIrDimensions) -> Result<Self, Error> {
        let w = w.laid_out(dimensions.layout());
        let group = |(i, [heads, blocks]): (usize, &[usize; 2])| -> Result<_, Error> {
            let w = w.at("layers").at(i);
            let block = |block| Block::load(&w.at("residual_group.blocks").at(block), *heads, dimensions.window);
            Ok(Group {
                blocks: (0..*blocks).map(block).collect::<Result<_, _>>()?,
                conv: Convolutions::load(&w.at("conv"), dimensions)?,
            })
        };
        Ok(Self {
            conv_first: Conv2d::load(&w.at("conv_first"))?,
            norm_first: LayerNorm::load(&w.at("patch_embed.norm"), EPS)?,
            groups: dimensions.groups.iter().enumerate().map(group).collect::<Result<_, _>>()?,
            norm: LayerNorm::load(&w.at("norm"), EPS)?,
            conv_after_body: Convolutions::load(&w.at("conv_after_body"), dimensions)?,
            enlarging: Enlarging::load(&w, dimensions)?,
            window: dimensions.window,
        })
    }

    /// `[1, 3, h, w]`, 0 to 1, to `[1, 3, h · factor, w · factor]`.
    pub(crate) fn forward(&self, x: Tensor<4>, inside: &Inside, watch: Watch) -> Result<Tensor<4>, RunError> {
        let [_, _, height, width] = x.dims();
        let x = mirrored(mirrored(x, 2, self.window), 3, self.window);
        let size = [x.dims()[2], x.dims()[3]];
        let mean = tensor(MEAN.to_vec(), [1, 3, 1, 1], &x.device());
        let range = if self.window == JPEG_WINDOW { 255.0 } else { 1.0 };
        let x = (x - mean.clone()) * range;
        let first = self.conv_first.forward(x.clone());
        let still = Windows { size, side: self.window, shift: 0 };
        let moved = Windows { shift: self.window / 2, ..still };
        let masks = moved.masks(&x.device());
        let ways = [(still, None), (moved, masks.as_ref())];
        let mut y = self.norm_first.forward(ops::tokens(first.clone()));
        for (i, group) in self.groups.iter().enumerate() {
            let map = group.forward(y, size, ways, watch);
            y = ops::tokens(inside.after_map(Site::block(NETWORK, BODY, i), map)?);
        }
        let y = self.conv_after_body.forward_onto(ops::pixels(self.norm.forward(y), size), first);
        let y = in_f32(self.enlarging.forward(x, y)) / range + mean;
        // Without what came of the pixels that windows were filled up with.
        let factor = y.dims()[2] / size[0];
        Ok(y.narrow(2, 0, height * factor).narrow(3, 0, width * factor))
    }
}

#[derive(Debug)]
struct Group {
    blocks: Vec<Block>,
    conv: Convolutions,
}

impl Group {
    /// `[1, h · w, c]` to a map of as many channels.
    fn forward(&self, x: Tensor<3>, size: [usize; 2], ways: [(Windows, Option<&Masks>); 2], watch: Watch) -> Tensor<4> {
        let y = self.blocks.iter().enumerate().fold(x.clone(), |y, (i, block)| {
            let (windows, masks) = ways[i % 2];
            let y = block.forward(y, windows, masks);
            watch();
            y
        });
        self.conv.forward_onto(ops::pixels(y, size), ops::pixels(x, size))
    }
}

/// Attention within windows and two layers of each pixel's own.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    /// `[1, heads, tokens, tokens]`
    bias: Tensor<4>,
}

impl Block {
    fn load(w: &Weights, heads: usize, window: usize) -> Result<Self, Error> {
        let table = w.at("attn").parameter::<2>(TABLE)?.value();
        Ok(Self {
            norm1: LayerNorm::load(&w.at("norm1"), EPS)?,
            qkv: Linear::load(&w.at("attn.qkv"))?,
            proj: Linear::load(&w.at("attn.proj"))?,
            norm2: LayerNorm::load(&w.at("norm2"), EPS)?,
            fc1: Linear::load(&w.at("mlp.fc1"))?,
            fc2: Linear::load(&w.at("mlp.fc2"))?,
            bias: biases(&values(&table), window, heads, w.device()),
        })
    }

    fn forward(&self, x: Tensor<3>, windows: Windows, masks: Option<&Masks>) -> Tensor<3> {
        let ([_, all, c], [height, width]) = (x.dims(), windows.size);
        let y = windows.moved(self.norm1.forward(x.clone()).reshape([height, width, c]));
        let [_, heads, tokens, _] = self.bias.dims();
        let at_once = (SCORES / (heads * tokens * tokens)).max(1);
        let row = |row: usize| {
            let starts = (0..windows.columns()).step_by(at_once);
            let parts = starts.map(|start| {
                let columns = start..(start + at_once).min(windows.columns());
                let mask = masks.and_then(|masks| masks.of(windows, row, columns.clone()));
                self.attend(windows.cut(&y, row, columns), mask)
            });
            windows.joined(Tensor::cat(parts.collect(), 0))
        };
        let y = windows.moved_back(Tensor::cat((0..windows.rows()).map(row).collect(), 0)).reshape([1, all, c]);
        let x = ops::add(x, y);
        let y = self.fc1.forward_then(self.norm2.forward(x.clone()), Activation::GeluErf);
        self.fc2.forward_onto(y, x)
    }

    /// Within each window, `[windows, tokens, c]`.
    fn attend(&self, x: Tensor<3>, mask: Option<Tensor<4>>) -> Tensor<3> {
        let [_, heads, _, _] = self.bias.dims();
        let [q, k, v] = self.qkv.forward(x).chunk(3, 2).try_into().unwrap_or_else(|_| unreachable!("three thirds"));
        let [q, k, v] = [q, k, v].map(|x| ops::split_heads(x, heads));
        let scale = (q.dims()[3] as f32).sqrt().recip();
        let scores = in_f32(ops::matmul(q * scale, k.swap_dims(2, 3))) + self.bias.clone();
        let scores = match mask {
            Some(mask) => scores + mask,
            None => scores,
        };
        self.proj.forward(ops::merge_heads(ops::matmul(in_format_of(ops::softmax(scores, 3), &v), v)))
    }
}

/// One convolution, or three that are narrow, rectified between.
#[derive(Debug)]
struct Convolutions {
    first: Vec<(Conv2d, Tensor<1>)>,
    last: Conv2d,
}

impl Convolutions {
    fn load(w: &Weights, dimensions: &SwinIrDimensions) -> Result<Self, Error> {
        if !dimensions.is_narrow {
            return Ok(Self { first: vec![], last: Conv2d::load(w)? });
        }
        let slopes = || Tensor::full([dimensions.channels / 4], SLOPE, w.device());
        let first = [0, 2].into_iter().map(|i| Ok((Conv2d::load(&w.at(i))?, slopes())));
        Ok(Self { first: first.collect::<Result<_, Error>>()?, last: Conv2d::load(&w.at(4))? })
    }

    fn forward_onto(&self, x: Tensor<4>, onto: Tensor<4>) -> Tensor<4> {
        let x = self.first.iter().fold(x, |x, (conv, slopes)| conv.forward_rectified(x, None, slopes));
        self.last.forward_onto(x, onto)
    }
}

/// What makes the picture larger behind the groups.
#[derive(Debug)]
enum Enlarging {
    Shuffled {
        before: Box<(Conv2d, Tensor<1>)>,
        upsample: Vec<(Conv2d, usize)>,
        conv_last: Conv2d,
    },
    Direct {
        upsample: Conv2d,
        factor: usize,
    },
    Doubled {
        before: Box<(Conv2d, Tensor<1>)>,
        conv_up: Vec<Conv2d>,
        /// With what it and those before it are rectified by.
        conv_hr: Box<(Conv2d, Tensor<1>)>,
        conv_last: Conv2d,
    },
    Same {
        conv_last: Conv2d,
    },
}

impl Enlarging {
    fn load(w: &Weights, dimensions: &SwinIrDimensions) -> Result<Self, Error> {
        let conv = |name: &str| Conv2d::load(&w.at(name));
        let before = |features| -> Result<_, Error> {
            Ok(Box::new((conv("conv_before_upsample.0")?, Tensor::full([features], SLOPE_BEFORE, w.device()))))
        };
        Ok(match &dimensions.end {
            End::Shuffled { features, squares } => Self::Shuffled {
                before: before(*features)?,
                upsample: (squares.iter().enumerate())
                    .map(|(i, square)| Ok((conv(&format!("upsample.{}", 2 * i))?, *square)))
                    .collect::<Result<_, Error>>()?,
                conv_last: conv("conv_last")?,
            },
            End::Direct { factor } => Self::Direct { upsample: conv("upsample.0")?, factor: *factor },
            End::Doubled { features, doublings } => Self::Doubled {
                before: before(*features)?,
                conv_up: (1..=*doublings).map(|i| conv(&format!("conv_up{i}"))).collect::<Result<_, _>>()?,
                conv_hr: Box::new((conv("conv_hr")?, Tensor::full([*features], SLOPE, w.device()))),
                conv_last: conv("conv_last")?,
            },
            End::Same => Self::Same { conv_last: conv("conv_last")? },
        })
    }

    /// The larger picture, of the picture `x` and the map `y` that the groups have made of it.
    fn forward(&self, x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        let rectified = |(conv, slopes): &(Conv2d, Tensor<1>), y| conv.forward_rectified(y, None, slopes);
        match self {
            Self::Shuffled { before, upsample, conv_last } => {
                let shuffle = |y, (conv, square): &(Conv2d, usize)| channels_as_pixels(conv.forward(y), *square);
                conv_last.forward(upsample.iter().fold(rectified(before, y), shuffle))
            }
            Self::Direct { upsample, factor } => channels_as_pixels(upsample.forward(y), *factor),
            Self::Doubled { before, conv_up, conv_hr, conv_last } => {
                let slopes = &conv_hr.1;
                let double = |y, conv: &Conv2d| conv.forward_rectified(ops::upsample_nearest_2x(y), None, slopes);
                let y = conv_up.iter().fold(rectified(before, y), double);
                conv_last.forward(rectified(conv_hr, y))
            }
            Self::Same { conv_last } => conv_last.forward_onto(y, x),
        }
    }
}
