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
}

pub(super) struct ResnetBlock {
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
}

struct AttnBlock {
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
            norm: norm(&w.at("norm"), c, groups)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
            attention: Attention::of(w),
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let normal = self.norm.forward(x.clone());
        let pixels = |conv: &Conv2d| conv.forward(normal.clone()).reshape([b, 1, c, h * w]).swap_dims(2, 3); // b 1 (h w) c
        let attended = self.attention.forward(pixels(&self.q), pixels(&self.k), pixels(&self.v));
        self.proj_out.forward_onto(attended.swap_dims(2, 3).reshape([b, c, h, w]), x)
    }
}
