//! The transformer's two kinds of block.
//!
//! Reference: flux/modules/layers.py `DoubleStreamBlock` and `SingleStreamBlock`, 802fb47.

use core_tensor::{
    Tensor, Weights,
    layers::{Linear, RmsNorm},
    ops::{self, Rope},
};
use diffusion_engine::Error;

use crate::transformer::{Dimensions, EPS};

/// Picture and text in streams of their own, which meet in one attention.
pub(crate) struct DoubleBlock {
    img: Stream,
    txt: Stream,
}

impl DoubleBlock {
    pub(crate) fn load(w: &Weights, dimensions: &Dimensions) -> Result<Self, Error> {
        Ok(Self { img: Stream::load(w, "img", dimensions)?, txt: Stream::load(w, "txt", dimensions)? })
    }

    /// `img` and `txt` `[b, tokens, hidden]`, `vec` `[b, hidden]`.
    pub(crate) fn forward(&self, img: Tensor<3>, txt: Tensor<3>, vec: &Tensor<2>, pe: &Rope) -> (Tensor<3>, Tensor<3>) {
        let [_, image_tokens, _] = img.dims();
        let [_, text_tokens, _] = txt.dims();
        let img_mod = self.img.modulation.forward(vec);
        let txt_mod = self.txt.modulation.forward(vec);
        let [img_q, img_k, img_v] = self.img.qkv(img.clone(), &img_mod);
        let [txt_q, txt_k, txt_v] = self.txt.qkv(txt.clone(), &txt_mod);

        let join = |txt, img| Tensor::cat(vec![txt, img], 2);
        let attended = attend(join(txt_q, img_q), join(txt_k, img_k), join(txt_v, img_v), pe);

        let img = self.img.finish(img, attended.clone().narrow(1, text_tokens, image_tokens), img_mod);
        let txt = self.txt.finish(txt, attended.narrow(1, 0, text_tokens), txt_mod);
        (img, txt)
    }
}

/// One stream's half of a [`DoubleBlock`].
struct Stream {
    modulation: Modulation<6>,
    qkv: Linear,
    norm: QkNorm,
    proj: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
    heads: usize,
}

impl Stream {
    fn load(w: &Weights, name: &str, dimensions: &Dimensions) -> Result<Self, Error> {
        let Dimensions { hidden, mlp, heads, .. } = *dimensions;
        let attn = w.at(format!("{name}_attn"));
        Ok(Self {
            modulation: Modulation::load(&w.at(format!("{name}_mod.lin")), hidden)?,
            qkv: Linear::load(&attn.at("qkv"), hidden, 3 * hidden)?,
            norm: QkNorm::load(&attn.at("norm"), hidden / heads)?,
            proj: Linear::load(&attn.at("proj"), hidden, hidden)?,
            mlp_in: Linear::load(&w.at(format!("{name}_mlp.0")), hidden, mlp)?,
            mlp_out: Linear::load(&w.at(format!("{name}_mlp.2")), mlp, hidden)?,
            heads,
        })
    }

    fn qkv(&self, x: Tensor<3>, [shift, scale, ..]: &[Tensor<3>; 6]) -> [Tensor<4>; 3] {
        self.norm.split(self.qkv.forward(modulate(x, shift.clone(), scale.clone())), self.heads)
    }

    fn finish(
        &self,
        x: Tensor<3>,
        attended: Tensor<3>,
        [_, _, gate1, shift2, scale2, gate2]: [Tensor<3>; 6],
    ) -> Tensor<3> {
        let x = x + gate1 * self.proj.forward(attended);
        let inner = ops::gelu_tanh(self.mlp_in.forward(modulate(x.clone(), shift2, scale2)));
        x + gate2 * self.mlp_out.forward(inner)
    }
}

/// Text and picture in one stream; attention and the inner layers side by side.
pub(crate) struct SingleBlock {
    modulation: Modulation<3>,
    linear1: Linear,
    linear2: Linear,
    norm: QkNorm,
    dimensions: Dimensions,
}

impl SingleBlock {
    pub(crate) fn load(w: &Weights, dimensions: &Dimensions) -> Result<Self, Error> {
        let Dimensions { hidden, mlp, heads, .. } = *dimensions;
        Ok(Self {
            modulation: Modulation::load(&w.at("modulation.lin"), hidden)?,
            linear1: Linear::load(&w.at("linear1"), hidden, 3 * hidden + mlp)?,
            linear2: Linear::load(&w.at("linear2"), hidden + mlp, hidden)?,
            norm: QkNorm::load(&w.at("norm"), hidden / heads)?,
            dimensions: *dimensions,
        })
    }

    /// `x` `[b, tokens, hidden]`, `vec` `[b, hidden]`.
    pub(crate) fn forward(&self, x: Tensor<3>, vec: &Tensor<2>, pe: &Rope) -> Tensor<3> {
        let Dimensions { hidden, mlp, heads, .. } = self.dimensions;
        let [shift, scale, gate] = self.modulation.forward(vec);
        let both = self.linear1.forward(modulate(x.clone(), shift, scale));
        let [q, k, v] = self.norm.split(both.clone().narrow(2, 0, 3 * hidden), heads);
        let inner = ops::gelu_tanh(both.narrow(2, 3 * hidden, mlp));
        let side_by_side = Tensor::cat(vec![attend(q, k, v, pe), inner], 2);
        x + gate * self.linear2.forward(side_by_side)
    }
}

/// `N` vectors that scale, shift and gate a block, made from `vec`.
pub(crate) struct Modulation<const N: usize> {
    lin: Linear,
    hidden: usize,
}

impl<const N: usize> Modulation<N> {
    pub(crate) fn load(w: &Weights, hidden: usize) -> Result<Self, Error> {
        Ok(Self { lin: Linear::load(w, hidden, N * hidden)?, hidden })
    }

    /// `[b, hidden]` to `N` of `[b, 1, hidden]`.
    pub(crate) fn forward(&self, vec: &Tensor<2>) -> [Tensor<3>; N] {
        let all: Tensor<3> = self.lin.forward(ops::silu(vec.clone())).unsqueeze_dim(1);
        std::array::from_fn(|i| all.clone().narrow(2, i * self.hidden, self.hidden))
    }
}

/// `(1 + scale) · norm(x) + shift`.
pub(crate) fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    ops::layer_norm(x, EPS) * (scale + 1.0) + shift
}

/// Norms of queries and keys, which keep attention's scores in range.
struct QkNorm {
    query_norm: RmsNorm,
    key_norm: RmsNorm,
}

impl QkNorm {
    fn load(w: &Weights, head: usize) -> Result<Self, Error> {
        Ok(Self {
            query_norm: RmsNorm::load(&w.at("query_norm"), "scale", head, EPS)?,
            key_norm: RmsNorm::load(&w.at("key_norm"), "scale", head, EPS)?,
        })
    }

    /// `[b, tokens, 3 · hidden]` to normed queries, normed keys and values, `[b, heads, tokens, head]`.
    fn split(&self, qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
        let [b, n, width] = qkv.dims();
        let head = width / 3 / heads;
        let qkv = qkv.reshape([b, n, 3, heads, head]);
        let part = |i| qkv.clone().narrow(2, i, 1).reshape([b, n, heads, head]).swap_dims(1, 2); // b heads n head
        [self.query_norm.forward(part(0)), self.key_norm.forward(part(1)), part(2)]
    }
}

/// Attention with rotated queries and keys, `[b, heads, tokens, head]` to `[b, tokens, hidden]`.
fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, pe: &Rope) -> Tensor<3> {
    ops::merge_heads(ops::attention(pe.rotate(q), pe.rotate(k), v, None, None))
}
