//! The transformer's two kinds of block.
//!
//! Reference: flux/modules/layers.py `DoubleStreamBlock` and `SingleStreamBlock`, 802fb47.

use core_tensor::{
    Declare, Tensor, Weights,
    layers::{Attention, Linear, RmsNorm},
    ops::{self, Activation, Rope},
};
use diffusion_engine::{Error, Inside, Site};

use crate::Dimensions;

pub(crate) const EPS: f64 = 1e-6; // flux/modules/layers.py: every norm

/// Picture and text in streams of their own, which meet in one attention.
#[derive(Debug)]
pub(crate) struct DoubleBlock {
    img: Stream,
    txt: Stream,
    attention: Attention,
}

impl DoubleBlock {
    pub(crate) fn declare(l: &mut Declare, dimensions: &Dimensions) {
        ["img", "txt"].into_iter().for_each(|name| Stream::declare(l, name, dimensions));
    }

    pub(crate) fn load(w: &Weights, heads: usize) -> Result<Self, Error> {
        let stream = |name| Stream::load(w, name, heads);
        Ok(Self { img: stream("img")?, txt: stream("txt")?, attention: Attention::of(w) })
    }

    /// What its attention is given of the picture: the normed and modulated `img`.
    pub(crate) fn sign(&self, img: Tensor<3>, vec: &Tensor<2>) -> Tensor<3> {
        let [shift, scale, ..] = self.img.modulation.forward(vec);
        modulate(img, shift, scale)
    }

    /// `img` and `txt` `[b, tokens, hidden]`, `vec` `[b, hidden]`.
    pub(crate) fn forward(
        &self,
        img: Tensor<3>,
        txt: Tensor<3>,
        vec: &Tensor<2>,
        pe: &Rope,
        at: Site,
        inside: &Inside,
    ) -> Result<(Tensor<3>, Tensor<3>), Error> {
        let [_, image_tokens, _] = img.dims();
        let [_, text_tokens, _] = txt.dims();
        let img_mod = self.img.modulation.forward(vec);
        let txt_mod = self.txt.modulation.forward(vec);
        let img_qkv = self.img.qkv(img.clone(), &img_mod);
        let txt_qkv = self.txt.qkv(txt.clone(), &txt_mod);
        let qkv = QkNorm::joined([(&self.txt.norm, txt_qkv), (&self.img.norm, img_qkv)], pe);
        let attended = ops::merge_heads(attended(&self.attention, qkv, at, inside)?);

        let img = self.img.finish(img, attended.clone().narrow(1, text_tokens, image_tokens), img_mod);
        let txt = self.txt.finish(txt, attended.narrow(1, 0, text_tokens), txt_mod);
        Ok((img, txt))
    }
}

/// One stream's half of a [`DoubleBlock`].
#[derive(Debug)]
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
    fn declare(l: &mut Declare, name: &str, dimensions: &Dimensions) {
        let Dimensions { hidden, mlp, heads, .. } = *dimensions;
        Modulation::<6>::declare(l, &format!("{name}_mod.lin"), hidden);
        let mut attn = l.at(format!("{name}_attn"));
        attn.linear("qkv", hidden, 3 * hidden);
        QkNorm::declare(&mut attn.at("norm"), hidden / heads);
        attn.linear("proj", hidden, hidden);
        l.linear(format!("{name}_mlp.0"), hidden, mlp);
        l.linear(format!("{name}_mlp.2"), mlp, hidden);
    }

    fn load(w: &Weights, name: &str, heads: usize) -> Result<Self, Error> {
        let attn = w.at(format!("{name}_attn"));
        Ok(Self {
            modulation: Modulation::load(&w.at(format!("{name}_mod.lin")))?,
            qkv: Linear::load(&attn.at("qkv"))?,
            norm: QkNorm::load(&attn.at("norm"))?,
            proj: Linear::load(&attn.at("proj"))?,
            mlp_in: Linear::load(&w.at(format!("{name}_mlp.0")))?,
            mlp_out: Linear::load(&w.at(format!("{name}_mlp.2")))?,
            heads,
        })
    }

    /// Queries, keys and values as the layer gives them, `[b, heads, tokens, head]`.
    fn qkv(&self, x: Tensor<3>, [shift, scale, ..]: &[Tensor<3>; 6]) -> [Tensor<4>; 3] {
        split(self.qkv.forward(modulate(x, shift.clone(), scale.clone())), self.heads)
    }

    fn finish(
        &self,
        x: Tensor<3>,
        attended: Tensor<3>,
        [_, _, gate1, shift2, scale2, gate2]: [Tensor<3>; 6],
    ) -> Tensor<3> {
        let x = self.proj.forward_gated_onto(attended, gate1, x);
        let inner = self.mlp_in.forward_then(modulate(x.clone(), shift2, scale2), Activation::GeluTanh);
        self.mlp_out.forward_gated_onto(inner, gate2, x)
    }
}

/// Text and picture in one stream; attention and the inner layers side by side.
#[derive(Debug)]
pub(crate) struct SingleBlock {
    modulation: Modulation<3>,
    /// `linear1` of the file: what attention takes, and the inner layer's half.
    qkv: Linear,
    mlp_in: Linear,
    linear2: Linear,
    norm: QkNorm,
    attention: Attention,
    heads: usize,
}

impl SingleBlock {
    pub(crate) fn declare(l: &mut Declare, dimensions: &Dimensions) {
        let Dimensions { hidden, mlp, heads, .. } = *dimensions;
        l.stacked("linear1", hidden, &[3 * hidden, mlp]);
        Modulation::<3>::declare(l, "modulation.lin", hidden);
        l.linear("linear2", hidden + mlp, hidden);
        QkNorm::declare(&mut l.at("norm"), hidden / heads);
    }

    pub(crate) fn load(w: &Weights, heads: usize) -> Result<Self, Error> {
        let [qkv, mlp_in] = Linear::load_stacked(&w.at("linear1"))?;
        Ok(Self {
            modulation: Modulation::load(&w.at("modulation.lin"))?,
            qkv,
            mlp_in,
            linear2: Linear::load(&w.at("linear2"))?,
            norm: QkNorm::load(&w.at("norm"))?,
            attention: Attention::of(w),
            heads,
        })
    }

    /// `x` `[b, tokens, hidden]`, `vec` `[b, hidden]`.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        vec: &Tensor<2>,
        pe: &Rope,
        at: Site,
        inside: &Inside,
    ) -> Result<Tensor<3>, Error> {
        let [shift, scale, gate] = self.modulation.forward(vec);
        let normal = modulate(x.clone(), shift, scale);
        let qkv = QkNorm::joined([(&self.norm, split(self.qkv.forward(normal.clone()), self.heads))], pe);
        let attended = ops::merge_heads(attended(&self.attention, qkv, at, inside)?);
        let inner = self.mlp_in.forward_then(normal, Activation::GeluTanh);
        Ok(self.linear2.forward_gated_onto(Tensor::cat(vec![attended, inner], 2), gate, x))
    }
}

/// A block's attention, or what a hook puts in its place.
fn attended(attention: &Attention, qkv: [Tensor<4>; 3], at: Site, inside: &Inside) -> Result<Tensor<4>, Error> {
    let own = inside.attend(at, [&qkv[0], &qkv[1], &qkv[2]])?;
    let [q, k, v] = qkv;
    Ok(own.unwrap_or_else(|| attention.forward(q, k, v)))
}

/// `N` vectors that scale, shift and gate a block, made from `vec`, which is `silu` of what the time and the words make.
#[derive(Debug)]
pub(crate) struct Modulation<const N: usize> {
    lin: Linear,
}

impl<const N: usize> Modulation<N> {
    pub(crate) fn declare(l: &mut Declare, name: &str, hidden: usize) {
        l.linear(name, hidden, N * hidden);
    }

    pub(crate) fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self { lin: Linear::load(w)? })
    }

    /// `[b, hidden]`, activated, to `N` of `[b, 1, hidden]`.
    pub(crate) fn forward(&self, vec: &Tensor<2>) -> [Tensor<3>; N] {
        let [_, hidden] = vec.dims();
        let all: Tensor<3> = self.lin.forward(vec.clone()).unsqueeze_dim(1);
        std::array::from_fn(|i| all.clone().narrow(2, i * hidden, hidden))
    }
}

/// `(1 + scale) · norm(x) + shift`.
pub(crate) fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    ops::modulated_layer_norm(x, shift, scale, EPS)
}

/// Norms of queries and keys, which keep attention's scores in range.
#[derive(Debug)]
struct QkNorm {
    query_norm: RmsNorm,
    key_norm: RmsNorm,
}

impl QkNorm {
    fn declare(l: &mut Declare, head: usize) {
        l.parameter("query_norm.scale", &[head]);
        l.parameter("key_norm.scale", &[head]);
    }

    fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self {
            query_norm: RmsNorm::load(&w.at("query_norm"), "scale", EPS)?,
            key_norm: RmsNorm::load(&w.at("key_norm"), "scale", EPS)?,
        })
    }

    /// Queries, keys and values, `[b, heads, tokens, head]`, of streams whose tokens follow one another and meet in one attention, the first two
    /// normed and rotated.
    fn joined<const N: usize>(streams: [(&Self, [Tensor<4>; 3]); N], pe: &Rope) -> [Tensor<4>; 3] {
        RmsNorm::heads_joined(streams.map(|(norm, heads)| ([&norm.query_norm, &norm.key_norm], heads)), pe)
    }
}

/// `[b, tokens, 3 · hidden]` to queries, keys and values, `[b, heads, tokens, head]`.
fn split(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [b, n, width] = qkv.dims();
    // Each part is a view. A dimension of three would have to be taken out again, and a view of fewer dimensions is copied.
    let qkv = qkv.reshape([b, n, 3 * heads, width / 3 / heads]);
    std::array::from_fn(|i| qkv.clone().narrow(2, i * heads, heads).swap_dims(1, 2)) // b heads n head
}
