//! Operations without parameters. Models call the functions of this file and never a back end's own, so that a faster body reaches
//! them all.
//!
//! [`Ops`] lists the operations, and there are four bodies of them: [`Cpu`] and `Own` are kernels of ours, for the CPU and for graphics cards, [`Cube`] is Burn's back ends for
//! others, [`Composed`] is right everywhere. A tensor's device and number format say which one is called. Every body is held against
//! `Composed` in f64 by [`suite`].
//!
//! A map `[b, c, h, w]` may lie plane by plane or pixel by pixel ([`kernels::MapOrder`]): a convolution gives it the order that its kernel
//! writes, and the operations here leave it in the order that they find. Whoever asks for values gets them row-major in any case.

mod composed;
mod cpu;
mod cube;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod own;
mod scores;
#[doc(hidden)]
pub mod suite;
#[cfg(test)]
mod tests;

use burn::tensor::DType;
pub use burn::tensor::activation::softmax;
pub use kernels::Activation;

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub use self::own::Own;
pub use self::{
    composed::Composed,
    cpu::Cpu,
    cube::Cube,
    scores::{Bias, Mask, Scores},
};
use crate::{Compute, Device, Tensor};

/// One body of the operations, which all operands reach on one device and in one number format. What a body does not define is
/// composed of Burn's operations.
pub trait Ops {
    /// `softmax(q · kᵀ · scale + bias) · v` of the keys that are seen, over `[b, heads, tokens, d]`; `compute` is the number format of
    /// both products where a body has a choice.
    fn attention(compute: Compute, qkv: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
        let _ = compute;
        composed::attention(qkv, scores)
    }

    /// See [`layer_norm`].
    fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
        composed::layer_norm(x, eps)
    }

    /// See [`affine_layer_norm`].
    fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
        Self::layer_norm(x, eps) * weight.clone().unsqueeze() + bias.clone().unsqueeze()
    }

    /// See [`modulated_layer_norm`].
    fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
        Self::layer_norm(x, eps) * (scale + 1.0) + shift
    }

    /// See [`rms_norm`].
    fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
        composed::rms_norm(x, scale, eps)
    }

    /// See [`group_norm`].
    fn group_norm(
        x: Tensor<4>,
        groups: usize,
        weight: &Tensor<1>,
        bias: &Tensor<1>,
        eps: f64,
        activation: Option<Activation>,
    ) -> Tensor<4> {
        composed::group_norm(x, groups, weight, bias, eps, activation)
    }

    /// See [`activate`].
    fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
        composed::activate(f, x)
    }

    /// See [`gated`].
    fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
        Self::activate(f, gate) * x
    }

    /// See [`add`].
    fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        x + y
    }

    /// See [`add_maps`].
    fn add_maps(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        Self::add(x, y)
    }

    /// See [`join_channels`].
    fn join_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        composed::join_channels(x, y)
    }

    /// See [`upsample_nearest_2x`].
    fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
        composed::upsample_nearest_2x(x)
    }

    /// See [`tokens`].
    fn tokens(x: Tensor<4>) -> Tensor<3> {
        composed::tokens(x)
    }

    /// See [`pixels`].
    fn pixels(x: Tensor<3>, size: [usize; 2]) -> Tensor<4> {
        composed::pixels(x, size)
    }

    /// [`rms_norm`] of each head with a scale and an epsilon, where there are any, then [`Rope::rotate`].
    fn rotate(x: Tensor<4>, norm: Option<(&Tensor<1>, f64)>, rope: &Rope) -> Tensor<4> {
        let normal = match norm {
            Some((scale, eps)) => Self::rms_norm(x, scale, eps),
            None => x,
        };
        composed::rotate(normal, rope)
    }

    /// [`rms_norm`] of the heads of streams whose tokens follow one another, by scales of their own, then [`Rope::rotate`], as one.
    fn rotate_joined<const N: usize>(streams: [(Tensor<4>, &Tensor<1>); N], eps: f64, rope: &Rope) -> Tensor<4> {
        let parts = rope.of_streams(streams.each_ref().map(|(x, _)| x.dims()[2]));
        let turned =
            streams.into_iter().zip(parts).map(|((x, scale), part)| Self::rotate(x, Some((scale, eps)), &part));
        Tensor::cat(turned.collect(), 2)
    }

    /// The tokens of streams one behind the other, all `[b, heads, tokens, d]`.
    fn join_tokens<const N: usize>(streams: [Tensor<4>; N]) -> Tensor<4> {
        Tensor::cat(streams.into(), 2)
    }

    /// See [`Rope::heads_joined`].
    fn heads_joined<const N: usize>(streams: [Stream; N], eps: f64, rope: &Rope) -> [Tensor<4>; 3] {
        let part = |i: usize| streams.each_ref().map(|stream| (stream.heads[i].clone(), stream.norms[i]));
        let values = streams.each_ref().map(|Stream { heads: [.., values], .. }| values.clone());
        let values = match &values[..] {
            [one] => one.clone(),
            _ => Self::join_tokens(values),
        };
        [Self::rotate_joined(part(0), eps, rope), Self::rotate_joined(part(1), eps, rope), values]
    }
}

/// Which body a tensor belongs to.
enum Home {
    Cpu,
    Cube,
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    Own,
    Composed,
}

impl Home {
    fn of<const D: usize>(x: &Tensor<D>) -> Self {
        match (crate::cpu::is(&x.device()), x.dtype()) {
            (true, DType::F32) => Home::Cpu,
            (true, _) => Home::Composed,
            #[cfg(any(feature = "cuda", feature = "vulkan"))]
            (false, _) if crate::gpu::takes(x) => Home::Own,
            (false, _) => Home::Cube,
        }
    }
}

/// The number format of a model's tensors on a device, where products are computed in `compute`.
pub(crate) fn dtype_on(device: &Device, compute: Compute) -> DType {
    match compute {
        Compute::F32 | Compute::Tf32 | Compute::Integers => DType::F32,
        // The CPU's tensors are f32 whatever its products are.
        Compute::Bf16 | Compute::F16 if crate::cpu::is(device) => DType::F32,
        Compute::Bf16 => DType::BF16,
        Compute::F16 => DType::F16,
    }
}

/// What products are computed in, where they are in `compute`, of a part that has values beyond those of f16: bf16 in place of that, or f32 on a device without.
pub fn beyond_f16(compute: Compute, device: &Device) -> Compute {
    match compute {
        Compute::F16 if device.supports_dtype(DType::BF16) => Compute::Bf16,
        Compute::F16 => Compute::F32,
        _ => compute,
    }
}

/// Calls an operation of the body that `x` belongs to.
macro_rules! at_home_of {
    ($x:expr, $operation:ident($($argument:expr),*)) => {
        match Home::of($x) {
            Home::Cpu => Cpu::$operation($($argument),*),
            Home::Cube => Cube::$operation($($argument),*),
            #[cfg(any(feature = "cuda", feature = "vulkan"))]
            Home::Own => Own::$operation($($argument),*),
            Home::Composed => Composed::$operation($($argument),*),
        }
    };
}

/// Scaled dot-product attention: `softmax(q · kᵀ · scale + bias) · v` over `[b, heads, tokens, d]`.
///
/// `scale` is `1 / sqrt(d)` where `None`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Bias>, scale: Option<f64>) -> Tensor<4> {
    attend(Compute::F32, [q, k, v], &Scores { scale, bias, mask: Mask::None })
}

/// [`attention`] in which a token sees only itself and those before it.
pub fn causal_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    attend(Compute::F32, [q, k, v], &Scores { mask: Mask::Causal, ..Scores::default() })
}

/// [`attention`] of queries, keys and values, in a number format.
pub(crate) fn attend(compute: Compute, qkv: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
    at_home_of!(&qkv[0], attention(compute, qkv, scores))
}

/// `a · b` of each of a batch, `[…, m, k]` and `[…, k, n]`, in the number format that both have; a batch of one goes with each of the other's.
/// What is f32 is multiplied in f32, where Burn takes tensor cores with fewer bits for it.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    crate::gpu::matmul(&a, &b).unwrap_or_else(|| a.matmul(b))
}

/// `[b, tokens, heads · d]` to `[b, heads, tokens, d]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, n, width] = x.dims();
    x.reshape([b, n, heads, width / heads]).swap_dims(1, 2) // b h n d
}

/// `[b, heads, tokens, d]` to `[b, tokens, heads · d]`.
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [b, heads, n, d] = x.dims();
    x.swap_dims(1, 2).reshape([b, n, heads * d]) // b n (h d)
}

/// Layer normalisation over the last dimension without scale or shift.
pub fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    at_home_of!(&x, layer_norm(x, eps))
}

/// `weight · norm(x) + bias`: layer normalisation over the last dimension with a scale and a shift, both `[d]`.
pub fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
    at_home_of!(&x, affine_layer_norm(x, weight, bias, eps))
}

/// `(1 + scale) · norm(x) + shift`: layer normalisation of `[b, tokens, d]` over `d`, with a scale and a shift for each of the
/// batch, `[b, 1, d]`.
pub fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
    at_home_of!(&x, modulated_layer_norm(x, shift, scale, eps))
}

/// Root-mean-square normalisation over the last dimension, times a scale `[d]`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
    at_home_of!(&x, rms_norm(x, scale, eps))
}

/// Normalisation over groups of channels and all pixels of `[b, c, h, w]`, with a scale and a shift for each channel; then
/// `activation`, where there is one.
pub fn group_norm(
    x: Tensor<4>,
    groups: usize,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
    activation: Option<Activation>,
) -> Tensor<4> {
    at_home_of!(&x, group_norm(x, groups, weight, bias, eps, activation))
}

/// An activation function of each value.
pub fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
    at_home_of!(&x, activate(f, x))
}

/// `x · sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::Silu, x)
}

/// GELU by its tanh approximation: `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::GeluTanh, x)
}

/// GELU by the error function.
pub fn gelu_erf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::GeluErf, x)
}

/// `x · sigmoid(1.702 · x)`, the approximation that OpenAI's CLIP was trained with.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(Activation::QuickGelu, x)
}

/// `f(gate) · x`, both of one shape.
pub fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
    at_home_of!(&x, gated(f, x, gate))
}

/// `x + y`, both of one shape.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    at_home_of!(&x, add(x, y))
}

/// `x + y`, both `[b, c, h, w]`.
pub fn add_maps(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    at_home_of!(&x, add_maps(x, y))
}

/// The channels of `x` `[b, c, h, w]`, then those of `y`, which has the same pixels.
pub fn join_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    at_home_of!(&x, join_channels(x, y))
}

/// Doubles height and width by repeating pixels, `[b, c, h, w]` to `[b, c, 2h, 2w]`.
pub fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    at_home_of!(&x, upsample_nearest_2x(x))
}

/// The pixels of `[b, c, h, w]` row by row, each with its channels side by side: `[b, h · w, c]`.
pub fn tokens(x: Tensor<4>) -> Tensor<3> {
    at_home_of!(&x, tokens(x))
}

/// The inverse of [`tokens`], to a picture of this height and width.
///
/// # Panics
/// If there are not as many tokens as pixels.
pub fn pixels(x: Tensor<3>, size: [usize; 2]) -> Tensor<4> {
    at_home_of!(&x, pixels(x, size))
}

/// What attention is between of one stream of tokens.
#[derive(Debug)]
pub struct Stream<'a> {
    /// Queries, keys and values, `[b, heads, tokens, d]`.
    pub heads: [Tensor<4>; 3],
    /// What each channel of queries and of keys is multiplied with, once they are normed, `[d]`.
    pub norms: [&'a Tensor<1>; 2],
}

/// Cosines and sines of a rotary position embedding, both `[1, 1, tokens, d / 2]`.
#[derive(Clone, Debug)]
pub struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rope {
    /// Angles for each token's position on each axis; `ids` is one row per token, one column per axis, and `axes` gives how
    /// many of a head's channels each axis rotates (all even).
    ///
    /// `omega_i = theta^(-2i / d)`, as in RoFormer (Su et al. 2021); computed in f64 as the reference does.
    pub fn new<const A: usize>(ids: &[[f32; A]], axes: [usize; A], theta: f64, device: &Device) -> Self {
        let angle = |position: f32, d: usize, i: usize| f64::from(position) * theta.powf(-(2.0 * i as f64) / d as f64);
        let row = |id: &[f32; A]| -> Vec<f64> {
            (0..A)
                .flat_map(|axis| (0..axes[axis] / 2).map(move |i| (axis, i)))
                .map(|(a, i)| angle(id[a], axes[a], i))
                .collect()
        };
        let angles: Vec<f64> = ids.iter().flat_map(row).collect();
        let shape = [1, 1, ids.len(), axes.iter().sum::<usize>() / 2];
        let table = |f: fn(f64) -> f64| crate::tensor(angles.iter().map(|&a| f(a) as f32).collect(), shape, device);
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// The tokens from `start` on.
    pub fn narrow(&self, start: usize, tokens: usize) -> Self {
        let part = |table: &Tensor<4>| table.clone().narrow(2, start, tokens);
        Self { cos: part(&self.cos), sin: part(&self.sin) }
    }

    /// Rotates each pair of neighbouring channels of `[b, heads, tokens, d]`.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        at_home_of!(&x, rotate(x, None, self))
    }

    /// Queries, keys and values of streams whose tokens follow one another, each `[b, heads, tokens of all, d]`: queries and keys by [`rms_norm`]
    /// and [`Rope::rotate`].
    ///
    /// # Panics
    /// Without a stream.
    pub fn heads_joined<const N: usize>(&self, streams: [Stream; N], eps: f64) -> [Tensor<4>; 3] {
        at_home_of!(&streams[0].heads[0], heads_joined(streams, eps, self))
    }

    /// The parts of streams of so many tokens, one behind the other.
    fn of_streams<const N: usize>(&self, tokens: [usize; N]) -> [Self; N] {
        std::array::from_fn(|i| self.narrow(tokens[..i].iter().sum(), tokens[i]))
    }
}
