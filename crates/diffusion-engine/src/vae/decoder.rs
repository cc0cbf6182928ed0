use core_tensor::{
    Tensor, Weights,
    layers::{Conv2d, GroupNorm},
    ops,
};

use super::blocks::{Mid, ResnetBlock, level, norm, passes};
use crate::{Error, Inside, Site, Size};

/// How the network is called where hooks look inside.
const NETWORK: &str = "decoder";

/// From a latent without its scaling to pixels.
///
/// Reference: latent-diffusion `Decoder`, whose parameter names these are; as in flux/modules/autoencoder.py, 802fb47.
pub(super) struct Decoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Mid,
    /// From the coarsest level to the finest.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    pub(super) channels: usize,
    /// Channels of the finest level.
    pub(super) width: usize,
}

impl Decoder {
    /// Loads what is under `decoder` and the convolution before it, which not every family has.
    pub(super) fn load(root: &Weights, groups: usize) -> Result<Self, Error> {
        let w = root.at("decoder");
        let [mut c, channels, _, _] = w.dims("conv_in.weight")?;
        let conv_in = Conv2d::load(&w.at("conv_in"), channels, c, 3)?;
        let mid = Mid::load(&w.at("mid"), &mut c, groups)?;
        let most = Size::MAX.ilog2() as usize;
        let levels = w.at("up").depth()?;
        // Each level but the last doubles; a few that don't are no reason to refuse.
        if levels > 2 * most {
            let (expected, found) = (format!("at most {}", 2 * most), levels.to_string());
            return Err(Error::Model { what: "an autoencoder's levels", expected, found });
        }
        let mut up = Vec::new();
        for level in (0..levels).rev() {
            up.push(UpLevel::load(&w.at("up").at(level), &mut c, groups)?);
        }
        let doublings = up.iter().filter(|level| level.upsample.is_some()).count();
        if doublings > most {
            let expected = format!("at most {most}");
            return Err(Error::Model {
                what: "how often an autoencoder doubles",
                expected,
                found: doublings.to_string(),
            });
        }
        let has_post_quant = root.shape("post_quant_conv.weight").is_some();
        Ok(Self {
            conv_in,
            mid,
            up,
            norm_out: norm(&w.at("norm_out"), c, groups)?,
            conv_out: Conv2d::load(&w.at("conv_out"), c, 3, 3)?,
            post_quant_conv: has_post_quant
                .then(|| Conv2d::load(&root.at("post_quant_conv"), channels, channels, 1))
                .transpose()?,
            channels,
            width: c,
        })
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub(super) fn factor(&self) -> usize {
        1 << self.up.iter().filter(|level| level.upsample.is_some()).count()
    }

    /// The most values that it holds at once for each pixel of a latent.
    pub(super) fn held(&self) -> u64 {
        let mut pixels = 1u64;
        let mut most = self.mid.held();
        for level in &self.up {
            for block in &level.blocks {
                most = most.max(pixels.saturating_mul(block.held()));
            }
            if level.upsample.is_some() {
                pixels = pixels.saturating_mul(4);
                most = most.max(pixels.saturating_mul(passes(level.width)));
            }
        }
        most.max(pixels.saturating_mul(passes(self.width as u64).saturating_add(3)))
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
        inside.after_map(Site::layer(NETWORK, "out"), self.conv_out.forward(self.norm_out.forward_silu(h)))
    }
}

struct UpLevel {
    /// Channels that come out of its blocks.
    width: u64,
    blocks: Vec<ResnetBlock>,
    upsample: Option<Conv2d>,
}

impl UpLevel {
    fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let blocks = level(&w.at("block"), c, groups)?;
        let upsample = match w.shape("upsample.conv.weight") {
            Some(_) => Some(Conv2d::load(&w.at("upsample.conv"), *c, *c, 3)?),
            None => None,
        };
        Ok(Self { width: *c as u64, blocks, upsample })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match &self.upsample {
            Some(conv) => conv.forward(ops::upsample_nearest_2x(x)),
            None => x,
        }
    }
}
