//! The layers that a UNet's blocks are made of.
//!
//! Reference: latent-diffusion ldm/modules/diffusionmodules/openaimodel.py and ldm/modules/attention.py, whose parameter names these are.

use core_tensor::{
    Latent, Tensor, Weights,
    layers::{Added, Attention, Conv2d, GroupNorm, LayerNorm, Linear},
    ops::{self, Activation},
};
use diffusion_engine::{Error, Inside, Interpolation, Site};

use crate::dimensions::{self, Transformer};

pub(crate) const EPS: f64 = 1e-5; // torch: GroupNorm and LayerNorm, where nothing is given
const TRANSFORMER_EPS: f64 = 1e-6; // ldm/modules/attention.py Normalize

/// What every layer is given beside a picture.
pub(crate) struct Given<'a> {
    /// `silu` of the timestep's vector, `[b or 1, embedding]`.
    pub(crate) emb: &'a Tensor<2>,
    /// The prompt, `[b, tokens, context]`.
    pub(crate) context: &'a Tensor<3>,
    pub(crate) inside: &'a Inside,
}

/// Layers that run one after the other.
#[derive(Debug)]
pub(crate) struct Block(Vec<Layer>);

#[allow(clippy::large_enum_variant, reason = "a layer is handles of fixed size, and a UNet has a few dozen")]
#[derive(Debug)]
enum Layer {
    Convolution(Conv2d),
    Res(ResBlock),
    Transformer(SpatialTransformer),
    Down(Conv2d),
    Up(Conv2d),
}

impl Block {
    pub(crate) fn load(w: &Weights, block: &[dimensions::Layer], groups: usize) -> Result<Self, Error> {
        let layer = |(i, layer): (usize, &dimensions::Layer)| {
            let w = w.at(i);
            Ok(match layer {
                dimensions::Layer::Convolution(_) => Layer::Convolution(Conv2d::load(&w)?),
                dimensions::Layer::Res(_) => Layer::Res(ResBlock::load(&w, groups)?),
                dimensions::Layer::Transformer(dimensions) => {
                    Layer::Transformer(SpatialTransformer::load(&w, dimensions, groups)?)
                }
                dimensions::Layer::Down(_) => Layer::Down(Conv2d::load(&w.at("op"))?.strided(2)),
                dimensions::Layer::Up(_) => Layer::Up(Conv2d::load(&w.at("conv"))?),
            })
        };
        block.iter().enumerate().map(layer).collect::<Result<_, Error>>().map(Self)
    }

    /// `[b, c, h, w]`; `up_to` are the height and width of the next block on the way down that a block on the way up is joined with.
    pub(crate) fn forward(
        &self,
        x: Tensor<4>,
        up_to: Option<[usize; 2]>,
        given: &Given,
        at: Site,
    ) -> Result<Tensor<4>, Error> {
        self.0.iter().try_fold(x, |x, layer| match layer {
            Layer::Convolution(conv) => Ok(conv.forward(x)),
            Layer::Res(block) => Ok(block.forward(x, given.emb)),
            Layer::Transformer(transformer) => transformer.forward(x, given, at),
            Layer::Down(conv) => Ok(conv.forward(x)),
            Layer::Up(conv) => {
                let to = up_to.expect("a UNet goes up no more often than it went down");
                Ok(conv.forward(nearest(x, to)?))
            }
        })
    }
}

/// `x` in another height and width, of the nearest pixels (ComfyUI comfy/ldm/modules/diffusionmodules/openaimodel.py `Upsample`, v0.3.64).
fn nearest(x: Tensor<4>, [h, w]: [usize; 2]) -> Result<Tensor<4>, Error> {
    let [_, _, rows, columns] = x.dims();
    // A side that was rounded up when it was halved comes out one too long.
    if [(rows, h), (columns, w)].iter().all(|(from, to)| from * 2 - to % 2 == *to) {
        return Ok(ops::upsample_nearest_2x(x).narrow(2, 0, h).narrow(3, 0, w));
    }
    Ok(Interpolation::Nearest.resized(&Latent(x), [h, w])?.0)
}

#[derive(Debug)]
struct ResBlock {
    in_norm: GroupNorm,
    in_conv: Conv2d,
    emb: Linear,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    skip_connection: Option<Conv2d>,
}

impl ResBlock {
    fn load(w: &Weights, groups: usize) -> Result<Self, Error> {
        let skip = w.declares("skip_connection.weight").then(|| Conv2d::load(&w.at("skip_connection")));
        Ok(Self {
            in_norm: GroupNorm::load(&w.at("in_layers.0"), groups, EPS)?,
            in_conv: Conv2d::load(&w.at("in_layers.2"))?,
            emb: Linear::load(&w.at("emb_layers.1"))?,
            out_norm: GroupNorm::load(&w.at("out_layers.0"), groups, EPS)?,
            out_conv: Conv2d::load(&w.at("out_layers.3"))?,
            skip_connection: skip.transpose()?,
        })
    }

    fn forward(&self, x: Tensor<4>, emb: &Tensor<2>) -> Tensor<4> {
        let silu = Some(Activation::Silu);
        let emb = Added { shift: Some(self.emb.forward(emb.clone())), residual: None };
        let h = self.in_conv.forward_normed(&self.in_norm, silu, x.clone(), emb);
        let x = match &self.skip_connection {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.out_conv.forward_normed(&self.out_norm, silu, h, Added { shift: None, residual: Some(x) })
    }
}

/// Transformer blocks over pixels.
#[derive(Debug)]
struct SpatialTransformer {
    norm: GroupNorm,
    proj: Projections,
    transformer_blocks: Vec<TransformerBlock>,
}

/// What lies between pixels and tokens, on the way in and on the way out.
#[derive(Debug)]
enum Projections {
    Convolutions([Conv2d; 2]),
    Matrices([Linear; 2]),
}

impl SpatialTransformer {
    fn load(w: &Weights, dimensions: &Transformer, groups: usize) -> Result<Self, Error> {
        let [proj_in, proj_out] = ["proj_in", "proj_out"].map(|name| w.at(name));
        let block = |i| TransformerBlock::load(&w.at("transformer_blocks").at(i), dimensions.heads);
        Ok(Self {
            norm: GroupNorm::load(&w.at("norm"), groups, TRANSFORMER_EPS)?,
            proj: match dimensions.convolutions {
                true => Projections::Convolutions([Conv2d::load(&proj_in)?, Conv2d::load(&proj_out)?]),
                false => Projections::Matrices([Linear::load(&proj_in)?, Linear::load(&proj_out)?]),
            },
            transformer_blocks: (0..dimensions.depth).map(block).collect::<Result<_, _>>()?,
        })
    }

    fn forward(&self, x: Tensor<4>, given: &Given, at: Site) -> Result<Tensor<4>, Error> {
        let [_, _, h, w] = x.dims();
        let tokens = match &self.proj {
            Projections::Convolutions([proj_in, _]) => {
                ops::tokens(proj_in.forward_normed(&self.norm, None, x.clone(), Added::default()))
            }
            Projections::Matrices([proj_in, _]) => proj_in.forward(ops::tokens(self.norm.forward(x.clone()))),
        };
        let blocks = self.transformer_blocks.iter().enumerate();
        let tokens = blocks.into_iter().try_fold(tokens, |x, (i, block)| {
            let at = at.inner(i);
            given.inside.after(at, block.forward(x, given, at)?)
        })?;
        Ok(match &self.proj {
            Projections::Convolutions([_, proj_out]) => proj_out.forward_onto(ops::pixels(tokens, [h, w]), x),
            Projections::Matrices([_, proj_out]) => ops::add_maps(x, ops::pixels(proj_out.forward(tokens), [h, w])),
        })
    }
}

#[derive(Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: CrossAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    /// `ff.net.0.proj` of the file: what goes on, and what gates it.
    value: Linear,
    gate: Linear,
    ff_out: Linear,
}

impl TransformerBlock {
    fn load(w: &Weights, heads: usize) -> Result<Self, Error> {
        let [value, gate] = Linear::load_stacked(&w.at("ff.net.0.proj"))?;
        let norm = |name| LayerNorm::load(&w.at(name), EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: CrossAttention::load(&w.at("attn1"), heads)?,
            norm2: norm("norm2")?,
            attn2: CrossAttention::load(&w.at("attn2"), heads)?,
            norm3: norm("norm3")?,
            value,
            gate,
            ff_out: Linear::load(&w.at("ff.net.2"))?,
        })
    }

    /// `[b, tokens, inner]`.
    fn forward(&self, x: Tensor<3>, given: &Given, at: Site) -> Result<Tensor<3>, Error> {
        let x = self.attn1.forward_onto(&self.norm1, x, None, at.stream("attn1"), given.inside)?;
        let x = self.attn2.forward_onto(&self.norm2, x, Some(given.context), at.stream("attn2"), given.inside)?;
        let feed_forward = [&self.value, &self.gate, &self.ff_out];
        Ok(Linear::gated_feed_forward(feed_forward, Activation::GeluErf, &self.norm3, x))
    }
}

#[derive(Debug)]
struct CrossAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    attention: Attention,
    heads: usize,
}

impl CrossAttention {
    fn load(w: &Weights, heads: usize) -> Result<Self, Error> {
        let linear = |name| Linear::load(&w.at(name));
        Ok(Self {
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
            attention: Attention::of(w),
            heads,
        })
    }

    /// `x` and what `norm(x)` `[b, tokens, inner]` finds in `context` `[b, seen, width]`, or in itself where there is none.
    fn forward_onto(
        &self,
        norm: &LayerNorm,
        x: Tensor<3>,
        context: Option<&Tensor<3>>,
        at: Site,
        inside: &Inside,
    ) -> Result<Tensor<3>, Error> {
        let [q, k, v] = match context {
            Some(context) => {
                let [q] = Linear::forward_each([&self.to_q], Some(norm), x.clone());
                let [k, v] = Linear::forward_each([&self.to_k, &self.to_v], None, context.clone());
                [q, k, v]
            }
            None => Linear::forward_each([&self.to_q, &self.to_k, &self.to_v], Some(norm), x.clone()),
        };
        let [q, k, v] = [q, k, v].map(|x| ops::split_heads(x, self.heads));
        let attended = match inside.attend(at, [&q, &k, &v])? {
            Some(attended) => attended,
            None => self.attention.forward(q, k, v),
        };
        let attended = inside.after(at, ops::merge_heads(attended))?;
        Ok(self.to_out.forward_onto(attended, x))
    }
}
