use core_tensor::{
    Tensor, Weights,
    layers::{Attention, Conv2d, GroupNorm},
};

use crate::Error;

const EPS: f64 = 1e-6; // flux/modules/autoencoder.py: every GroupNorm

/// A group norm whose groups divide its channels.
pub(super) fn norm(w: &Weights, channels: usize, groups: usize) -> Result<GroupNorm, Error> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::Model {
            what: "the channels of an autoencoder's group norm",
            expected: format!("a multiple of {groups}"),
            found: channels.to_string(),
        });
    }
    Ok(GroupNorm::load(w, channels, groups, EPS)?)
}

/// The blocks of one level, at least one.
pub(super) fn level(w: &Weights, c: &mut usize, groups: usize) -> Result<Vec<ResnetBlock>, Error> {
    (0..w.depth()?.max(1)).map(|i| ResnetBlock::load(&w.at(i), c, groups)).collect()
}

/// What a convolution on the CPU packs of `c` channels of a pixel, in values of f32.
pub(super) fn packed(c: u64) -> u64 {
    c.next_multiple_of(32) / 2 // kernels: 32 channels side by side, in bf16
}

/// What a convolution of as many channels as it is given holds for each pixel: both, and what it packs.
pub(super) fn passes(c: u64) -> u64 {
    c.saturating_mul(2).saturating_add(packed(c))
}

/// The coarsest resolution of either half: two blocks with attention between them.
pub(super) struct Mid {
    block_1: ResnetBlock,
    attn_1: AttnBlock,
    block_2: ResnetBlock,
}

impl Mid {
    pub(super) fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        Ok(Self {
            block_1: ResnetBlock::load(&w.at("block_1"), c, groups)?,
            attn_1: AttnBlock::load(&w.at("attn_1"), *c, groups)?,
            block_2: ResnetBlock::load(&w.at("block_2"), c, groups)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.block_1.forward(x);
        let h = self.attn_1.forward(h);
        self.block_2.forward(h)
    }

    /// The most values that it holds at once for each pixel.
    pub(super) fn held(&self) -> u64 {
        self.block_1.held().max(self.attn_1.held()).max(self.block_2.held())
    }
}

pub(super) struct ResnetBlock {
    channels: [u64; 2],
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// A block that takes `c` channels, and leaves in `c` how many it gives.
    fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let [c_out, _, _, _] = w.dims("conv1.weight")?;
        let c_in = std::mem::replace(c, c_out);
        let shortcut = c_in != c_out || w.shape("nin_shortcut.weight").is_some();
        Ok(Self {
            channels: [c_in as u64, c_out as u64],
            norm1: norm(&w.at("norm1"), c_in, groups)?,
            conv1: Conv2d::load(&w.at("conv1"), c_in, c_out, 3)?,
            norm2: norm(&w.at("norm2"), c_out, groups)?,
            conv2: Conv2d::load(&w.at("conv2"), c_out, c_out, 3)?,
            nin_shortcut: shortcut.then(|| Conv2d::load(&w.at("nin_shortcut"), c_in, c_out, 1)).transpose()?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let x = match &self.nin_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.forward_onto(self.norm2.forward_silu(h), x)
    }

    /// The most values that it holds at once for each pixel: what it is given, that normalised, and what it makes.
    pub(super) fn held(&self) -> u64 {
        let [c_in, c_out] = self.channels;
        let widest = c_in.max(c_out);
        c_in.saturating_add(widest).saturating_add(c_out).saturating_add(packed(widest))
    }
}

struct AttnBlock {
    channels: u64,
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
    attention: Attention,
}

impl AttnBlock {
    fn load(w: &Weights, c: usize, groups: usize) -> Result<Self, Error> {
        let conv = |name| Conv2d::load(&w.at(name), c, c, 1);
        Ok(Self {
            channels: c as u64,
            norm: norm(&w.at("norm"), c, groups)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
            attention: Attention::of(w),
        })
    }

    /// The most values that it holds at once for each pixel: what it is given, that normalised, queries, keys and values as they
    /// are made, in the order that attention reads and as it packs them, and what comes out.
    fn held(&self) -> u64 {
        self.channels.saturating_mul(2 + 3 * 2 + 3 + 1)
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let normal = self.norm.forward(x.clone());
        let pixels = |conv: &Conv2d| conv.forward(normal.clone()).reshape([b, 1, c, h * w]).swap_dims(2, 3); // b 1 (h w) c
        let attended = self.attention.forward(pixels(&self.q), pixels(&self.k), pixels(&self.v));
        self.proj_out.forward_onto(attended.swap_dims(2, 3).reshape([b, c, h, w]), x)
    }
}
