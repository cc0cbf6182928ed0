//! The UNet, under the parameter names of latent-diffusion's files.
//!
//! Reference: latent-diffusion ldm/modules/diffusionmodules/openaimodel.py `UNetModel`, and its successor in Stability's
//! generative-models.

use core_tensor::{
    Blocks, Device, Tensor, Weights,
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
    /// Hooks see, in this order, each of `input_blocks`, `middle_block`, each of `output_blocks` and `out`. Before an output block they see
    /// what comes from below as its stream `h` and what comes from its input block as `skip`. Inside a block they see each transformer
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
            emb = emb + label_emb.forward(y.expect("the caller gives a vector to a UNet that takes one"));
        }
        let given = Given { emb: &ops::silu(emb), context: &context, inside };

        let mut sizes = Vec::new();
        let mut skips = Vec::new();
        let h = self.input_blocks.each(x, |h, i, block| {
            let at = Site::block(NETWORK, "input_blocks", i);
            let h = inside.after_map(at, block.forward(h, &mut sizes, &given, at)?)?;
            skips.push(h.clone());
            Ok::<_, Error>(h)
        })?;
        let at = Site::layer(NETWORK, "middle_block");
        let h = inside.after_map(at, self.middle_block.forward(h, &mut sizes, &given, at)?)?;
        let h = self.output_blocks.each(h, |h, i, block| {
            let at = Site::block(NETWORK, "output_blocks", i);
            let skip = skips.pop().expect("a UNet has as many input blocks as output blocks");
            let (h, skip) = (inside.after_map(at.stream("h"), h)?, inside.after_map(at.stream("skip"), skip)?);
            inside.after_map(at, block.forward(ops::join_channels(h, skip), &mut sizes, &given, at)?)
        })?;
        let out = self.out_conv.forward_normed(&self.out_norm, Some(Activation::Silu), h, Added::default());
        inside.after_map(Site::layer(NETWORK, "out"), out)
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
