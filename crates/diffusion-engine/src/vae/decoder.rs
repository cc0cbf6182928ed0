use core_tensor::{
    Tensor, Weights,
    layers::{Added, Conv2d, GroupNorm},
    ops::{self, Activation},
};

use super::{
    blocks::{Mid, ResnetBlock, blocks, norm},
    dimensions::{Half, Level},
};
use crate::{Error, Inside, Site};

/// How the network is called where hooks look inside.
const NETWORK: &str = "decoder";

/// From a latent without its scaling to pixels.
///
/// Reference: latent-diffusion `Decoder`, whose parameter names these are; as in flux/modules/autoencoder.py, 802fb47.
#[derive(Debug)]
pub(super) struct Decoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Mid,
    /// From the coarsest level to the finest.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    /// Loads what is under `decoder` and the convolution before it, which not every family has.
    pub(super) fn load(root: &Weights, dimensions: &Half, groups: usize) -> Result<Self, Error> {
        let w = root.at("decoder");
        let up = |(i, level): &(usize, Level)| UpLevel::load(&w.at("up").at(i), level, groups);
        Ok(Self {
            conv_in: Conv2d::load(&w.at("conv_in"))?,
            mid: Mid::load(&w.at("mid"), groups)?,
            up: dimensions.levels.iter().map(up).collect::<Result<_, _>>()?,
            norm_out: norm(&w.at("norm_out"), groups)?,
            conv_out: Conv2d::load(&w.at("conv_out"))?,
            post_quant_conv: dimensions.quant.then(|| Conv2d::load(&root.at("post_quant_conv"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, z: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let z = match &self.post_quant_conv {
            Some(conv) => conv.forward(z),
            None => z,
        };
        let h = inside.after_map(Site::layer(NETWORK, "conv_in"), self.conv_in.forward(z))?;
        let h = inside.after_map(Site::layer(NETWORK, "mid"), self.mid.forward(h))?;
        let levels = self.up.len();
        let h = self.up.iter().enumerate().try_fold(h, |h, (i, level)| {
            inside.after_map(Site::block(NETWORK, "up", levels - 1 - i), level.forward(h))
        })?;
        let out = self.conv_out.forward_normed(&self.norm_out, Some(Activation::Silu), h, Added::default());
        inside.after_map(Site::layer(NETWORK, "out"), out)
    }
}

#[derive(Debug)]
struct UpLevel {
    /// Channels that come out of its blocks.
    blocks: Vec<ResnetBlock>,
    upsample: Option<Conv2d>,
}

impl UpLevel {
    fn load(w: &Weights, level: &Level, groups: usize) -> Result<Self, Error> {
        let upsample = level.sampled.map(|_| Conv2d::load(&w.at("upsample.conv")));
        Ok(Self { blocks: blocks(w, level, groups)?, upsample: upsample.transpose()? })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match &self.upsample {
            Some(conv) => conv.forward(ops::upsample_nearest_2x(x)),
            None => x,
        }
    }
}
