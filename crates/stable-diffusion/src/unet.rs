//! The UNet, under the parameter names of latent-diffusion's files.
//!
//! Reference: latent-diffusion ldm/modules/diffusionmodules/openaimodel.py `UNetModel`, and its successor in Stability's
//! generative-models.

use core_tensor::{
    Blocks, Device, Tensor, Weights, in_format_of,
    layers::{Added, Conv2d, GroupNorm, Linear},
    ops::{self, Activation},
    tensor,
};
use diffusion_engine::{Error, Inside, Site};

use crate::{
    blocks::{Block, EPS, Given},
    dimensions::{self, MARK, UnetDimensions},
    unet_config::UnetConfig,
};

/// The UNet of Stable Diffusion: predicts the noise of a latent, or its velocity.
#[derive(Debug)]
pub struct Unet {
    dimensions: UnetDimensions,
    time_embed: Embedding,
    label_emb: Option<Embedding>,
    input_blocks: Blocks<Block>,
    middle_block: Block,
    output_blocks: Blocks<Block>,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    device: Device,
}

/// How the network is called where hooks look inside.
const NETWORK: &str = "unet";

const MAX_PERIOD: f32 = 10_000.0; // ldm/modules/diffusionmodules/util.py timestep_embedding

impl Unet {
    /// A tensor that every UNet has; before its name stands the file's prefix.
    pub const MARK: &str = MARK;

    /// Loads a UNet under the names of latent-diffusion, with or without a prefix such as `model.diffusion_model.`.
    ///
    /// # Errors
    /// As [`UnetDimensions::of`], and a tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights, config: &UnetConfig) -> Result<Self, Error> {
        let w = w.before(MARK);
        let dimensions = UnetDimensions::of(&w, config)?;
        let w = w.laid_out(dimensions.layout());
        let groups = dimensions.groups;
        let stack = |name: &str, blocks: &[dimensions::Block]| {
            Blocks::load(blocks.len(), |i| Block::load(&w.at(name).at(i), &blocks[i], groups))
        };
        Ok(Self {
            time_embed: Embedding::load(&w.at("time_embed"))?,
            label_emb: dimensions.adm.map(|_| Embedding::load(&w.at("label_emb.0"))).transpose()?,
            input_blocks: stack("input_blocks", &dimensions.input_blocks)?,
            middle_block: Block::load(&w.at("middle_block"), &dimensions.middle_block, groups)?,
            output_blocks: stack("output_blocks", &dimensions.output_blocks)?,
            out_norm: GroupNorm::load(&w.at("out.0"), groups, EPS)?,
            out_conv: Conv2d::load(&w.at("out.2"))?,
            device: w.device().clone(),
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &UnetDimensions {
        &self.dimensions
    }

    /// What it predicts of `x` `[b, in_channels, h, w]`, `[b, out_channels, h, w]`.
    ///
    /// `timestep` is 0 to 999, also between whole ones. `context` is the prompt, `[b, tokens, context]`. `y` is the vector beside it,
    /// `[b, adm]`, of a UNet that takes one; others ignore it.
    ///
    /// Hooks see, in this order, each of `input_blocks`, `middle_block` where there is one, each of `output_blocks` and `out`. Before an output block they see
    /// what comes from below as its stream `h` and what comes from its input block as `skip`, and may change both where they are joined; what goes on
    /// down from an input block is its stream `onward`. Behind the first of `input_blocks` that is more than a convolution something may stand
    /// in for all that follow before `out`, as [`Site::REST`], whose sign is what that block adds. Inside a block they see each transformer
    /// block, and its attentions as the streams `attn1` (among pixels) and `attn2` (to the prompt), before `to_out`.
    ///
    /// # Errors
    /// Those of [`Inside`].
    ///
    /// # Panics
    /// If an input has another shape, or there is no `y` for a UNet that takes one.
    pub fn forward(
        &self,
        x: Tensor<4>,
        timestep: f32,
        context: Tensor<3>,
        y: Option<Tensor<2>>,
        inside: &Inside,
    ) -> Result<Tensor<4>, Error> {
        assert_eq!(x.dims()[1], self.dimensions.in_channels, "channels of a UNet's input");
        let mut emb = self.time_embed.forward(self.sinusoid(timestep));
        if let Some(label_emb) = &self.label_emb {
            let y = label_emb.forward(y.expect("the caller gives a vector to a UNet that takes one"));
            emb = in_format_of(emb, &y) + y;
        }
        let given = Given { emb: &ops::silu(emb), context: &context, inside };

        let mut skips = Vec::new();
        let mut rest = Rest::default();
        let h = self.input_blocks.each(x, |h, i, block| {
            if rest.made.is_some() {
                return Ok(h);
            }
            let at = Site::block(NETWORK, "input_blocks", i);
            let before = (i == FIRST && inside.is_seen()).then(|| h.clone());
            let h = inside.after_sized(at, block.forward(h, None, &given, at)?)?;
            skips.push(h.clone());
            if let Some(before) = before.filter(|before| before.dims() == h.dims()) {
                rest = Rest::of(&before, &h, inside)?;
            }
            inside.after_sized(at.stream("onward"), h)
        })?;
        let h = match rest.made {
            Some(h) => h,
            None => {
                let h = self.up(h, skips, &given)?;
                rest.computed(&h, inside)?;
                h
            }
        };
        let out = self.out_conv.forward_normed(&self.out_norm, Some(Activation::Silu), h, Added::default());
        inside.after_map(Site::layer(NETWORK, "out"), out)
    }

    /// What the middle and the way up make of what comes down and of what came out of each block on the way.
    fn up(&self, h: Tensor<4>, mut skips: Vec<Tensor<4>>, given: &Given) -> Result<Tensor<4>, Error> {
        let at = Site::layer(NETWORK, "middle_block");
        let h = match self.dimensions.middle_block.is_empty() {
            true => h,
            false => given.inside.after_map(at, self.middle_block.forward(h, None, given, at)?)?,
        };
        self.output_blocks.each(h, |h, i, block| {
            let (at, inside) = (Site::block(NETWORK, "output_blocks", i), given.inside);
            let skip = skips.pop().expect("a UNet has as many input blocks as output blocks");
            let up_to = skips.last().map(|skip| [skip.dims()[2], skip.dims()[3]]);
            let (h, skip) = (inside.after_map(at.stream("h"), h)?, inside.after_map(at.stream("skip"), skip)?);
            let [h, skip] = inside.join(at, [h, skip])?;
            inside.after_map(at, block.forward(ops::join_channels(h, skip), up_to, given, at)?)
        })
    }

    /// Cosines, then sines, of the timestep at geometrically falling frequencies, `[1, width]`; in f32 as the reference.
    fn sinusoid(&self, timestep: f32) -> Tensor<2> {
        let (width, half) = (self.dimensions.width, self.dimensions.width / 2);
        let angle = |i: usize| timestep * (-MAX_PERIOD.ln() * i as f32 / half as f32).exp();
        let mut channels: Vec<f32> =
            (0..half).map(|i| angle(i).cos()).chain((0..half).map(|i| angle(i).sin())).collect();
        channels.resize(width, 0.0);
        tensor(channels, [1, width], &self.device)
    }
}

/// The first of `input_blocks` that is more than a convolution.
const FIRST: usize = 1;

/// All blocks behind the first, as hooks may have something else stand for them.
#[derive(Default)]
struct Rest {
    /// What stands for them.
    made: Option<Tensor<4>>,
    /// What goes into them, if a hook wants to know what comes out.
    from: Option<Tensor<3>>,
}

impl Rest {
    const AT: Site = Site::layer(NETWORK, Site::REST);

    fn of(before: &Tensor<4>, h: &Tensor<4>, inside: &Inside) -> Result<Self, Error> {
        let [b, c, rows, columns] = h.dims();
        let flat = |x: &Tensor<4>| x.clone().reshape([b, c, rows * columns]);
        let from = flat(h);
        let made = inside.stand_in(Self::AT, &from, &|| flat(h) - flat(before))?;
        Ok(Self { made: made.map(|made| made.reshape([b, c, rows, columns])), from: Some(from) })
    }

    fn computed(&self, h: &Tensor<4>, inside: &Inside) -> Result<(), Error> {
        let [b, c, rows, columns] = h.dims();
        match &self.from {
            Some(from) if from.dims() == [b, c, rows * columns] => {
                inside.computed(Self::AT, [from, &h.clone().reshape([b, c, rows * columns])])
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Two layers that make the vector that is added in every block.
#[derive(Debug)]
struct Embedding {
    first: Linear,
    second: Linear,
}

impl Embedding {
    fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self { first: Linear::load(&w.at(0))?, second: Linear::load(&w.at(2))? })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(self.first.forward_then(x, Activation::Silu))
    }
}
