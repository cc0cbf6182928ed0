use core_tensor::{
    Tensor, Weights,
    layers::{Added, Attention, Conv2d, GroupNorm},
    ops::{self, Activation},
};

use super::dimensions::Level;
use crate::Error;

const EPS: f64 = 1e-6; // flux/modules/autoencoder.py: every GroupNorm

/// A group norm whose groups divide its channels.
pub(super) fn norm(w: &Weights, groups: usize) -> Result<GroupNorm, Error> {
    Ok(GroupNorm::load(w, groups, EPS)?)
}

/// The blocks of one level.
pub(super) fn blocks(w: &Weights, level: &Level, groups: usize) -> Result<Vec<ResnetBlock>, Error> {
    (0..level.blocks.len()).map(|i| ResnetBlock::load(&w.at("block").at(i), groups)).collect()
}

/// The coarsest resolution of either half: two blocks with attention between them.
#[derive(Debug)]
pub(super) struct Mid {
    block_1: ResnetBlock,
    attn_1: AttnBlock,
    block_2: ResnetBlock,
}

impl Mid {
    pub(super) fn load(w: &Weights, groups: usize) -> Result<Self, Error> {
        Ok(Self {
            block_1: ResnetBlock::load(&w.at("block_1"), groups)?,
            attn_1: AttnBlock::load(&w.at("attn_1"), groups)?,
            block_2: ResnetBlock::load(&w.at("block_2"), groups)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.block_1.forward(x);
        let h = self.attn_1.forward(h);
        self.block_2.forward(h)
    }
}

#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    fn load(w: &Weights, groups: usize) -> Result<Self, Error> {
        let has_shortcut = w.declares("nin_shortcut.weight");
        Ok(Self {
            norm1: norm(&w.at("norm1"), groups)?,
            conv1: Conv2d::load(&w.at("conv1"))?,
            norm2: norm(&w.at("norm2"), groups)?,
            conv2: Conv2d::load(&w.at("conv2"))?,
            nin_shortcut: has_shortcut.then(|| Conv2d::load(&w.at("nin_shortcut"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let silu = Some(Activation::Silu);
        let h = self.conv1.forward_normed(&self.norm1, silu, x.clone(), Added::default());
        let x = match &self.nin_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.forward_normed(&self.norm2, silu, h, Added { shift: None, residual: Some(x) })
    }
}

#[derive(Debug)]
struct AttnBlock {
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
    attention: Attention,
}

impl AttnBlock {
    fn load(w: &Weights, groups: usize) -> Result<Self, Error> {
        let conv = |name| Conv2d::load(&w.at(name));
        Ok(Self {
            norm: norm(&w.at("norm"), groups)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
            attention: Attention::of(w),
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, h, w] = x.dims();
        let normal = self.norm.forward(x.clone());
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|conv| ops::split_heads(ops::tokens(conv.forward(normal.clone())), 1));
        let attended = ops::merge_heads(self.attention.forward(q, k, v));
        self.proj_out.forward_onto(ops::pixels(attended, [h, w]), x)
    }
}
