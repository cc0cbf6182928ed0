use core_tensor::{Declare, Layout, Weights, packed_channels};

use super::tiles::{Maps, TileCost, TilePlan};
use crate::{AutoencoderKl, Error, Size};

/// How large an autoencoder is, as its tensors say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaeDimensions {
    pub(super) decoder: Half,
    pub(super) encoder: Option<Half>,
}

/// One half of an autoencoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Half {
    /// Channels of a latent for the decoder, and twice as many for the encoder.
    pub(super) latent: usize,
    /// Channels behind the first convolution.
    first: usize,
    /// The two blocks around the attention.
    mid: [Resnet; 2],
    /// In the order in which a picture passes them; each with its number in the file.
    pub(super) levels: Vec<(usize, Level)>,
    /// Channels before the last convolution.
    last: usize,
    /// Whether a convolution lies between this half and the latents.
    pub(super) quant: bool,
}

/// Blocks of one resolution, and whether the next has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) blocks: Vec<Resnet>,
    /// The channels that are brought to the next resolution.
    pub(super) sampled: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resnet {
    c_in: usize,
    c_out: usize,
    shortcut: bool,
}

impl VaeDimensions {
    /// Reads the dimensions of the decoder off the tensors' shapes. `groups` are the norms'.
    ///
    /// # Errors
    /// A tensor that is missing, or numbers that can't be computed with.
    pub fn of(w: &Weights, groups: usize) -> Result<Self, Error> {
        Ok(Self { decoder: Half::decoder(&w.before(AutoencoderKl::MARK), groups)?, encoder: None })
    }

    /// The same with the encoder.
    ///
    /// # Errors
    /// As [`VaeDimensions::of`], and halves that don't fit each other.
    pub fn of_both(w: &Weights, groups: usize) -> Result<Self, Error> {
        let half = Self::of(w, groups)?;
        let encoder = Half::encoder(&w.before(AutoencoderKl::MARK), groups)?;
        for (what, expected, found) in [
            ("the channels that an autoencoder's encoder makes", half.channels(), encoder.latent / 2),
            ("what an autoencoder's encoder divides sides by", half.factor(), encoder.factor()),
        ] {
            if expected != found {
                let expected = format!("{expected} as its decoder has");
                return Err(Error::Model { what, expected, found: found.to_string() });
            }
        }
        Ok(Self { encoder: Some(encoder), ..half })
    }

    /// Whether there is an encoder beside the decoder.
    pub fn has_encoder(w: &Weights) -> bool {
        w.before(AutoencoderKl::MARK).shape("encoder.conv_in.weight").is_some()
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        self.decoder.latent
    }

    /// Channels of the finest level, which takes the most memory.
    pub fn width(&self) -> usize {
        self.decoder.last
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        self.decoder.factor()
    }

    /// What decoding a latent of this height and width takes where there is `room` for so many bytes, or for as many as it takes.
    pub fn decoding(&self, latent: [usize; 2], room: Option<u64>) -> Maps {
        let cost = self.decode_cost();
        TilePlan::decoding(latent, cost, room).maps(cost)
    }

    /// What encoding a picture to a latent of this height and width takes where there is `room` for so many bytes, or for as many as
    /// decoding it takes. Nothing without an encoder.
    pub fn encoding(&self, latent: [usize; 2], room: Option<u64>) -> Maps {
        let Some(encoder) = &self.encoder else { return Maps::default() };
        let cost = encoder.encode_cost();
        TilePlan::encoding(latent, self.decode_cost(), cost, room).maps(cost)
    }

    /// What decoding takes for each pixel of a latent at most; weights are not counted.
    pub(super) fn decode_cost(&self) -> TileCost {
        let pixels = (self.factor() as u64).saturating_mul(self.factor() as u64);
        TileCost {
            working: bytes(self.decoder.decoder_held()),
            result: bytes(pixels.saturating_mul(3 * TileCost::COPIES)),
        }
    }

    /// Every tensor of such an autoencoder, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        Layout::of(|l| {
            self.decoder.declare_decoder(l);
            if let Some(encoder) = &self.encoder {
                encoder.declare_encoder(l);
            }
        })
    }
}

impl Half {
    fn decoder(root: &Weights, groups: usize) -> Result<Self, Error> {
        let w = root.at("decoder");
        let [first, latent, _, _] = w.dims("conv_in.weight")?;
        let mut c = first;
        let mid = mid(&w, &mut c, groups)?;
        let most = Size::MAX.ilog2() as usize;
        let depth = w.at("up").depth()?;
        // Each level but the last doubles; a few that don't are no reason to refuse.
        if depth > 2 * most {
            let (expected, found) = (format!("at most {}", 2 * most), depth.to_string());
            return Err(Error::Model { what: "an autoencoder's levels", expected, found });
        }
        let level = |i| Ok((i, Level::of(&w.at("up").at(i), "upsample", &mut c, groups)?));
        let levels = (0..depth).rev().map(level).collect::<Result<Vec<_>, Error>>()?;
        let quant = root.shape("post_quant_conv.weight").is_some();
        let half = Self { latent, first, mid, levels, last: c, quant };
        half.checked("how often an autoencoder doubles", groups)
    }

    fn encoder(root: &Weights, groups: usize) -> Result<Self, Error> {
        let w = root.at("encoder");
        let [first, _, _, _] = w.dims("conv_in.weight")?;
        let mut c = first;
        let level = |i| Ok((i, Level::of(&w.at("down").at(i), "downsample", &mut c, groups)?));
        let levels = (0..w.at("down").depth()?).map(level).collect::<Result<Vec<_>, Error>>()?;
        let mid = mid(&w, &mut c, groups)?;
        let [latent, _, _, _] = w.dims("conv_out.weight")?;
        if latent % 2 != 0 {
            return Err(Error::Model {
                what: "the number of an autoencoder's means and variances",
                expected: "even".into(),
                found: latent.to_string(),
            });
        }
        let quant = root.shape("quant_conv.weight").is_some();
        let half = Self { latent, first, mid, levels, last: c, quant };
        half.checked("how often an autoencoder halves", groups)
    }

    fn checked(self, what: &'static str, groups: usize) -> Result<Self, Error> {
        let (most, found) = (Size::MAX.ilog2() as usize, self.samplings());
        if found > most {
            return Err(Error::Model { what, expected: format!("at most {most}"), found: found.to_string() });
        }
        normed(self.last, groups)?;
        Ok(self)
    }

    /// How many pixels become one of a latent, in each direction, or the other way.
    pub(super) fn factor(&self) -> usize {
        1 << self.samplings()
    }

    fn samplings(&self) -> usize {
        self.levels.iter().filter(|(_, level)| level.sampled.is_some()).count()
    }

    fn declare_decoder(&self, l: &mut Declare) {
        let mut decoder = l.at("decoder");
        decoder.convolution("conv_in", self.latent, self.first, 3);
        declare_mid(&mut decoder.at("mid"), &self.mid);
        self.levels.iter().for_each(|(i, level)| level.declare(&mut decoder.at("up").at(i), "upsample"));
        decoder.norm("norm_out", self.last);
        decoder.convolution("conv_out", self.last, 3, 3);
        if self.quant {
            l.convolution("post_quant_conv", self.latent, self.latent, 1);
        }
    }

    fn declare_encoder(&self, l: &mut Declare) {
        let mut encoder = l.at("encoder");
        encoder.convolution("conv_in", 3, self.first, 3);
        self.levels.iter().for_each(|(i, level)| level.declare(&mut encoder.at("down").at(i), "downsample"));
        declare_mid(&mut encoder.at("mid"), &self.mid);
        encoder.norm("norm_out", self.last);
        encoder.convolution("conv_out", self.last, self.latent, 3);
        if self.quant {
            l.convolution("quant_conv", self.latent, self.latent, 1);
        }
    }
}

impl Level {
    /// A level that takes `c` channels, and leaves in `c` how many it gives; it has one block at least.
    fn of(w: &Weights, sampler: &str, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let blocks = w.at("block");
        let block = |i| Resnet::of(&blocks.at(i), c, groups);
        let blocks = (0..blocks.depth()?.max(1)).map(block).collect::<Result<_, _>>()?;
        let sampled = w.shape(&format!("{sampler}.conv.weight")).map(|_| *c);
        Ok(Self { blocks, sampled })
    }

    fn declare(&self, l: &mut Declare, sampler: &str) {
        self.blocks.iter().enumerate().for_each(|(i, block)| block.declare(&mut l.at("block").at(i)));
        if let Some(c) = self.sampled {
            l.convolution(format!("{sampler}.conv"), c, c, 3);
        }
    }
}

impl Resnet {
    /// A block that takes `c` channels, and leaves in `c` how many it gives.
    fn of(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let [c_out, _, _, _] = w.dims("conv1.weight")?;
        let c_in = std::mem::replace(c, c_out);
        normed(c_in, groups)?;
        normed(c_out, groups)?;
        Ok(Self { c_in, c_out, shortcut: c_in != c_out || w.shape("nin_shortcut.weight").is_some() })
    }

    fn declare(&self, l: &mut Declare) {
        let Self { c_in, c_out, shortcut } = *self;
        l.norm("norm1", c_in);
        l.convolution("conv1", c_in, c_out, 3);
        l.norm("norm2", c_out);
        l.convolution("conv2", c_out, c_out, 3);
        if shortcut {
            l.convolution("nin_shortcut", c_in, c_out, 1);
        }
    }
}

/// The coarsest resolution of either half: two blocks with attention between them.
fn mid(w: &Weights, c: &mut usize, groups: usize) -> Result<[Resnet; 2], Error> {
    let w = w.at("mid");
    Ok([Resnet::of(&w.at("block_1"), c, groups)?, Resnet::of(&w.at("block_2"), c, groups)?])
}

fn declare_mid(l: &mut Declare, [block_1, block_2]: &[Resnet; 2]) {
    block_1.declare(&mut l.at("block_1"));
    let (mut attn, c) = (l.at("attn_1"), block_1.c_out);
    attn.norm("norm", c);
    ["q", "k", "v", "proj_out"].into_iter().for_each(|name| attn.convolution(name, c, c, 1));
    block_2.declare(&mut l.at("block_2"));
}

/// Finds out whether groups divide a norm's channels.
fn normed(channels: usize, groups: usize) -> Result<(), Error> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::Model {
            what: "the channels of an autoencoder's group norm",
            expected: format!("a multiple of {groups}"),
            found: channels.to_string(),
        });
    }
    Ok(())
}

/// What each half holds while it computes, for tiles.
impl Half {
    /// The most values that a decoder holds at once for each pixel of a latent.
    fn decoder_held(&self) -> u64 {
        let (pixels, most) = self.levels.iter().fold((1u64, self.mid_held()), |(pixels, most), (_, level)| {
            let most = most.max(pixels.saturating_mul(level.held()));
            match level.sampled {
                Some(c) => {
                    let pixels = pixels.saturating_mul(4);
                    (pixels, most.max(pixels.saturating_mul(passes(c as u64))))
                }
                None => (pixels, most),
            }
        });
        most.max(pixels.saturating_mul(passes(self.last as u64).saturating_add(3)))
    }

    /// The most bytes that one of a decoder's maps has for each pixel of a latent.
    pub(super) fn widest_decoded(&self) -> u64 {
        let widest =
            |level: &Level| level.blocks.iter().map(|block| block.c_in.max(block.c_out)).max().unwrap_or(0) as u64;
        let (_, most) = self.levels.iter().fold((1u64, self.first as u64), |(pixels, most), (_, level)| {
            let most = most.max(pixels.saturating_mul(widest(level)));
            match level.sampled {
                Some(c) => (pixels.saturating_mul(4), most.max(pixels.saturating_mul(4).saturating_mul(c as u64))),
                None => (pixels, most),
            }
        });
        bytes(most)
    }

    /// The most bytes that one of an encoder's maps has for each pixel of a latent.
    pub(super) fn widest_encoded(&self) -> u64 {
        let factor = self.factor() as u64;
        let widest =
            |level: &Level| level.blocks.iter().map(|block| block.c_in.max(block.c_out)).max().unwrap_or(0) as u64;
        let pixels = factor.saturating_mul(factor);
        let (_, most) = self.levels.iter().fold(
            (pixels, pixels.saturating_mul(self.first as u64)),
            |(pixels, most), (_, level)| {
                (
                    if level.sampled.is_some() { pixels / 4 } else { pixels },
                    most.max(pixels.saturating_mul(widest(level))),
                )
            },
        );
        bytes(most)
    }

    /// What an encoder takes for each pixel of a latent at most; weights are not counted.
    pub(super) fn encode_cost(&self) -> TileCost {
        let moments = bytes((self.latent as u64).saturating_mul(TileCost::COPIES));
        TileCost { working: bytes(self.encoder_held()), result: moments }
    }

    /// The most values that an encoder holds at once for each pixel of a latent.
    fn encoder_held(&self) -> u64 {
        let factor = self.factor() as u64;
        let (_, most) =
            self.levels.iter().fold((factor.saturating_mul(factor), self.mid_held()), |(pixels, most), (_, level)| {
                let most = most.max(pixels.saturating_mul(level.held()));
                match level.sampled {
                    // What is given, with its border, and the quarter of it that comes out, with and without the border.
                    Some(c) => {
                        let halved = passes(c as u64).saturating_add(c as u64);
                        (pixels / 4, most.max(pixels.saturating_mul(halved)))
                    }
                    None => (pixels, most),
                }
            });
        most
    }

    fn mid_held(&self) -> u64 {
        let [first, second] = &self.mid;
        // What attention is given, that normalised, queries, keys and values as they are made, in the order that it reads and as it packs
        // them, and what comes out.
        let attention = (first.c_out as u64).saturating_mul(2 + 3 * 2 + 3 + 1);
        first.held().max(attention).max(second.held())
    }
}

impl Level {
    fn held(&self) -> u64 {
        self.blocks.iter().map(Resnet::held).max().unwrap_or(0)
    }
}

impl Resnet {
    /// What it is given, that normalised, and what it makes.
    fn held(&self) -> u64 {
        let [c_in, c_out] = [self.c_in as u64, self.c_out as u64];
        let widest = c_in.max(c_out);
        c_in.saturating_add(widest).saturating_add(c_out).saturating_add(packed_channels(widest))
    }
}

/// Of so many f32 values.
fn bytes(values: u64) -> u64 {
    values.saturating_mul(4)
}

/// What a convolution of as many channels as it is given holds for each pixel: both, and what it packs.
fn passes(c: u64) -> u64 {
    c.saturating_mul(2).saturating_add(packed_channels(c))
}
