use core_tensor::{Declare, Layout, Weights};
use diffusion_engine::{Error, Size};

use crate::unet_config::UnetConfig;

/// How large a UNet is, as its tensors say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetDimensions {
    /// Channels of what it is given: those of a latent; 8 and 9 where a picture, or a mask and a picture, lie behind them.
    pub in_channels: usize,
    /// Channels of what it predicts.
    pub out_channels: usize,
    /// Channels of the timestep's sinusoid, which are those of the finest level.
    pub width: usize,
    /// Width of the vector that the timestep becomes.
    pub embedding: usize,
    /// Width of a vector beside the prompt (`adm`), where the UNet takes one: 2816 for Stable Diffusion XL, 2560 for its refiner.
    pub adm: Option<usize>,
    /// Width of a prompt's vectors; `None` of a UNet without attention.
    pub context: Option<usize>,
    pub(crate) groups: usize,
    /// How often sides are halved.
    pub(crate) halvings: usize,
    pub(crate) input_blocks: Vec<Block>,
    /// Without layers in a UNet that goes up where it has come down.
    pub(crate) middle_block: Block,
    pub(crate) output_blocks: Vec<Block>,
}

/// Layers that run one after the other.
pub(crate) type Block = Vec<Layer>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Convolution(Channels),
    Res(Res),
    Transformer(Transformer),
    Down(Channels),
    Up(Channels),
}

/// What goes into a convolution and what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Res {
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
    pub(crate) skip: bool,
}

/// Transformer blocks over the pixels of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transformer {
    pub(crate) channels: usize,
    /// Width of the blocks.
    pub(crate) inner: usize,
    /// Width of the blocks' inner layers.
    pub(crate) mlp: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    /// Whether pixels come in and go out through 1 × 1 convolutions, which are matrices otherwise.
    pub(crate) convolutions: bool,
}

/// A tensor that every UNet has, and no ControlNet; before its name stands the file's prefix.
pub(crate) const MARK: &str = "output_blocks.0.0.in_layers.0.weight";

impl UnetDimensions {
    /// Reads the dimensions off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing, or numbers that can't be computed with.
    pub fn of(w: &Weights, config: &UnetConfig) -> Result<Self, Error> {
        let w = w.before(MARK);
        let [embedding, width] = w.dims("time_embed.0.weight")?;
        let [_, in_channels, _, _] = w.dims("input_blocks.0.0.weight")?;
        let [out_channels, _, _, _] = w.dims("out.2.weight")?;
        let adm = w.shape("label_emb.0.0.weight").map(|_| w.dims("label_emb.0.0.weight")).transpose()?;

        let mut walk = Walk { config, channels: in_channels, level: 0, deepest: 0, context: None };
        let blocks =
            |stack: &str| Ok::<_, Error>((0..w.at(stack).depth()?).map(|i| w.at(stack).at(i)).collect::<Vec<_>>());
        let mut skips = Vec::new();
        let mut input_blocks = Vec::new();
        for block in blocks("input_blocks")? {
            input_blocks.push(walk.block(&block)?);
            skips.push((walk.channels, walk.level));
        }
        let middle = w.at("middle_block");
        let has_middle = config.mid_block_type.is_some() || middle.depth()? > 0;
        let middle_block = if has_middle { walk.block(&middle)? } else { Block::new() };
        let mut output_blocks = Vec::new();
        for block in blocks("output_blocks")? {
            walk.join(skips.pop())?;
            output_blocks.push(walk.block(&block)?);
        }
        if !skips.is_empty() {
            let expected = format!("{}, that of its input blocks", input_blocks.len());
            return Err(Error::Model { what: OUTPUT_BLOCKS, expected, found: output_blocks.len().to_string() });
        }
        walk.finish()?;
        Ok(Self {
            in_channels,
            out_channels,
            width,
            embedding,
            adm: adm.map(|[_, adm]| adm),
            context: walk.context,
            groups: config.groups(),
            halvings: walk.deepest,
            input_blocks,
            middle_block,
            output_blocks,
        })
    }

    /// What sides of a latent should be a multiple of: two to the power of how often the UNet halves them. Others are rounded up on every
    /// level.
    pub fn multiple(&self) -> usize {
        1 << self.halvings
    }

    /// Every tensor of such a UNet, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        Layout::of(|l| {
            l.linear("time_embed.0", self.width, self.embedding);
            l.linear("time_embed.2", self.embedding, self.embedding);
            if let Some(adm) = self.adm {
                l.linear("label_emb.0.0", adm, self.embedding);
                l.linear("label_emb.0.2", self.embedding, self.embedding);
            }
            let stacks = [("input_blocks", &self.input_blocks), ("output_blocks", &self.output_blocks)];
            for (stack, blocks) in stacks {
                blocks.iter().enumerate().for_each(|(i, block)| self.declare(&mut l.at(stack).at(i), block));
            }
            self.declare(&mut l.at("middle_block"), &self.middle_block);
            let last = self.output_blocks.last().and_then(|block| block.last()).map_or(self.width, Layer::c_out);
            l.norm("out.0", last);
            l.convolution("out.2", last, self.out_channels, 3);
        })
    }

    fn declare(&self, l: &mut Declare, block: &Block) {
        block.iter().enumerate().for_each(|(i, layer)| layer.declare(&mut l.at(i), self));
    }
}

const OUTPUT_BLOCKS: &str = "the number of a UNet's output blocks";

/// The way through a UNet, and what is known on it.
struct Walk<'a> {
    config: &'a UnetConfig,
    channels: usize,
    /// How often sides were halved.
    level: usize,
    deepest: usize,
    context: Option<usize>,
}

impl Walk<'_> {
    fn block(&mut self, w: &Weights) -> Result<Block, Error> {
        // A block without layers lacks the first.
        (0..w.depth()?.max(1)).map(|i| self.layer(&w.at(i))).collect()
    }

    /// What a layer is, its tensors' names say.
    fn layer(&mut self, w: &Weights) -> Result<Layer, Error> {
        let c_in = self.channels;
        if w.shape("weight").is_some() {
            let [c_out, ..]: [usize; 4] = w.dims("weight")?;
            self.channels = c_out;
            return Ok(Layer::Convolution(Channels { c_in, c_out }));
        }
        if w.shape("op.weight").is_some() {
            let [c_out, ..]: [usize; 4] = w.dims("op.weight")?;
            self.channels = c_out;
            self.down()?;
            return Ok(Layer::Down(Channels { c_in, c_out }));
        }
        if w.shape("conv.weight").is_some() {
            let [c_out, ..]: [usize; 4] = w.dims("conv.weight")?;
            self.channels = c_out;
            self.up()?;
            return Ok(Layer::Up(Channels { c_in, c_out }));
        }
        if w.shape("proj_in.weight").is_some() {
            return self.transformer(w).map(Layer::Transformer);
        }
        let [c_out, ..]: [usize; 4] = w.dims("in_layers.2.weight")?;
        self.channels = c_out;
        self.normed(c_in)?;
        self.normed(c_out)?;
        let skip = c_in != c_out || w.shape("skip_connection.weight").is_some();
        Ok(Layer::Res(Res { c_in, c_out, skip }))
    }

    fn transformer(&mut self, w: &Weights) -> Result<Transformer, Error> {
        let channels = self.channels;
        self.normed(channels)?;
        let convolutions = w.shape("proj_in.weight").is_some_and(|shape| shape.len() == 4);
        let inner = match convolutions {
            true => w.dims::<4>("proj_in.weight")?[0],
            false => w.dims::<2>("proj_in.weight")?[0],
        };
        let blocks = w.at("transformer_blocks");
        let first = blocks.at(0);
        let [rows, _] = first.dims("ff.net.0.proj.weight")?;
        let [_, context] = first.dims("attn2.to_k.weight")?;
        self.context.get_or_insert(context);
        let heads = self.config.heads(self.level, inner, convolutions)?;
        Ok(Transformer { channels, inner, mlp: rows / 2, depth: blocks.depth()?, heads, convolutions })
    }

    /// Takes what an input block gave beside what comes from below.
    fn join(&mut self, skip: Option<(usize, usize)>) -> Result<(), Error> {
        let Some((channels, level)) = skip else {
            let (expected, found) = ("that of its input blocks".to_owned(), "larger".to_owned());
            return Err(Error::Model { what: OUTPUT_BLOCKS, expected, found });
        };
        if level != self.level {
            return Err(Error::Model {
                what: "how often sides are halved where a UNet's output block begins",
                expected: format!("{level} times, as behind its input block"),
                found: self.level.to_string(),
            });
        }
        self.channels = self.channels.saturating_add(channels);
        Ok(())
    }

    fn down(&mut self) -> Result<(), Error> {
        let most = Size::MAX.ilog2() as usize;
        self.level += 1;
        self.deepest = self.deepest.max(self.level);
        match self.level <= most {
            true => Ok(()),
            false => Err(halved(format!("at most {most} times"), self.level)),
        }
    }

    fn up(&mut self) -> Result<(), Error> {
        self.level =
            self.level.checked_sub(1).ok_or_else(|| halved("as often as it doubles them".into(), self.deepest))?;
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        self.normed(self.channels)?;
        match self.level {
            0 => Ok(()),
            left => Err(halved("as often as it doubles them".into(), left)),
        }
    }

    /// Finds out whether groups divide a norm's channels.
    fn normed(&self, channels: usize) -> Result<(), Error> {
        let groups = self.config.groups();
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::Model {
                what: "the channels of a UNet's group norm",
                expected: format!("a multiple of {groups}"),
                found: channels.to_string(),
            });
        }
        Ok(())
    }
}

fn halved(expected: String, found: usize) -> Error {
    Error::Model { what: "how often a UNet halves sides", expected, found: found.to_string() }
}

impl Layer {
    /// How many channels it gives.
    pub(crate) fn c_out(&self) -> usize {
        match self {
            Layer::Convolution(conv) | Layer::Down(conv) | Layer::Up(conv) => conv.c_out,
            Layer::Res(res) => res.c_out,
            Layer::Transformer(transformer) => transformer.channels,
        }
    }

    fn declare(&self, l: &mut Declare, unet: &UnetDimensions) {
        match self {
            Layer::Convolution(conv) => l.convolution("", conv.c_in, conv.c_out, 3),
            Layer::Down(conv) => l.convolution("op", conv.c_in, conv.c_out, 3),
            Layer::Up(conv) => l.convolution("conv", conv.c_in, conv.c_out, 3),
            Layer::Res(res) => res.declare(l, unet.embedding),
            Layer::Transformer(transformer) => transformer.declare(l, unet.context.unwrap_or(0)),
        }
    }
}

impl Res {
    fn declare(&self, l: &mut Declare, embedding: usize) {
        let Self { c_in, c_out, skip } = *self;
        l.norm("in_layers.0", c_in);
        l.convolution("in_layers.2", c_in, c_out, 3);
        l.linear("emb_layers.1", embedding, c_out);
        l.norm("out_layers.0", c_out);
        l.convolution("out_layers.3", c_out, c_out, 3);
        if skip {
            l.convolution("skip_connection", c_in, c_out, 1);
        }
    }
}

impl Transformer {
    fn declare(&self, l: &mut Declare, context: usize) {
        let Self { channels, inner, mlp, depth, heads: _, convolutions } = *self;
        l.norm("norm", channels);
        for (name, c_in, c_out) in [("proj_in", channels, inner), ("proj_out", inner, channels)] {
            match convolutions {
                true => l.convolution(name, c_in, c_out, 1),
                false => l.linear(name, c_in, c_out),
            }
        }
        let mut blocks = l.at("transformer_blocks");
        for i in 0..depth {
            let mut block = blocks.at(i);
            for (name, seen) in [("attn1", inner), ("attn2", context)] {
                let mut attn = block.at(name);
                attn.unbiased("to_q", inner, inner);
                attn.unbiased("to_k", seen, inner);
                attn.unbiased("to_v", seen, inner);
                attn.linear("to_out.0", inner, inner);
            }
            block.stacked("ff.net.0.proj", inner, &[mlp, mlp]);
            block.linear("ff.net.2", mlp, inner);
            ["norm1", "norm2", "norm3"].into_iter().for_each(|name| block.norm(name, inner));
        }
    }
}
