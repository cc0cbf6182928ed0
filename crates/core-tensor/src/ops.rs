//! Operations without parameters. Models call these and never a back end's own, so that a faster body reaches them all.
//!
//! On the CPU each is a kernel of ours, in f32; on any other back end, and in any other number format, it is composed of
//! Burn's operations.

mod composed;

use kernels::{Affine, Scores};

pub use burn::tensor::activation::softmax;
pub use kernels::Activation;

use crate::{
    Compute, Device, Tensor,
    cpu::{self, HeadsOf, Values, isa},
};

/// What attention adds to its scores.
#[derive(Clone)]
pub enum Bias {
    /// A number for each head, query and key, `[1, heads, q tokens, k tokens]`.
    Full(Tensor<4>),
    /// A number for each head and distance, `[heads, q tokens + k tokens - 1]`: query `q` and key `k` get number
    /// `k + q tokens - 1 - q` of their head.
    Relative(Tensor<2>),
}

/// Scaled dot-product attention: `softmax(q · kᵀ · scale + bias) · v` over `[b, heads, tokens, d]`.
///
/// `scale` is `1 / sqrt(d)` where `None`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Bias>, scale: Option<f64>) -> Tensor<4> {
    attend(Compute::F32, [q, k, v], bias, scale, false)
}

/// [`attention`] in which a token sees only itself and those before it.
pub fn causal_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    attend(Compute::F32, [q, k, v], None, None, true)
}

/// [`attention`] of queries, keys and values, in a number format.
pub(crate) fn attend(
    compute: Compute,
    [q, k, v]: [Tensor<4>; 3],
    bias: Option<Bias>,
    scale: Option<f64>,
    causal: bool,
) -> Tensor<4> {
    let [b, heads, n, d] = q.dims();
    let values = bias.as_ref().map(|bias| match bias {
        Bias::Full(all) => Values::of(all),
        Bias::Relative(table) => Values::of(table),
    });
    let views = (HeadsOf::of(&q), HeadsOf::of(&k), HeadsOf::of(&v), values);
    let (Some(q_view), Some(k_view), Some(v_view), None | Some(Some(_))) = &views else {
        return composed::attention([q, k, v], bias, scale, causal);
    };
    let values = views.3.as_ref().and_then(Option::as_deref);
    let bias = bias.zip(values).map(|(bias, values)| match bias {
        Bias::Full(_) => kernels::Bias::Full(values),
        Bias::Relative(_) => kernels::Bias::Relative(values),
    });
    let scores = Scores { scale: scale.unwrap_or(1.0 / (d as f64).sqrt()) as f32, bias, causal };
    cpu::tensor([b, n, heads, d], |out| {
        kernels::attention(isa(), compute, q_view.view(), k_view.view(), v_view.view(), scores, out)
    })
    .swap_dims(1, 2) // b heads n d
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
    match Values::of(&x) {
        Some(values) => cpu::tensor(x.dims(), |out| {
            kernels::layer_norm(isa(), &values, x.dims()[D - 1], eps as f32, Affine::None, out)
        }),
        None => composed::layer_norm(x, eps),
    }
}

/// `weight · norm(x) + bias`: layer normalisation over the last dimension with a scale and a shift, both `[d]`.
pub fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
    match (Values::of(&x), Values::of(weight), Values::of(bias)) {
        (Some(values), Some(weight), Some(bias)) => cpu::tensor(x.dims(), |out| {
            let how = Affine::Columns { weight: &weight, bias: Some(&bias) };
            kernels::layer_norm(isa(), &values, x.dims()[D - 1], eps as f32, how, out)
        }),
        _ => composed::affine_layer_norm(x, weight.clone(), bias.clone(), eps),
    }
}

/// `(1 + scale) · norm(x) + shift`: layer normalisation of `[b, tokens, d]` over `d`, with a scale and a shift for each of the
/// batch, `[b, 1, d]`.
pub fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
    match (Values::of(&x), Values::of(&shift), Values::of(&scale)) {
        (Some(values), Some(shift), Some(scale)) => cpu::tensor(x.dims(), |out| {
            let how = Affine::Modulated { scale: &scale, shift: &shift, rows: x.dims()[1] };
            kernels::layer_norm(isa(), &values, x.dims()[2], eps as f32, how, out)
        }),
        _ => composed::modulated_layer_norm(x, shift, scale, eps),
    }
}

/// Root-mean-square normalisation over the last dimension, times a scale `[d]`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
    match (Values::of(&x), Values::of(scale)) {
        (Some(values), Some(scale)) => {
            cpu::tensor(x.dims(), |out| kernels::rms_norm(isa(), &values, x.dims()[D - 1], &scale, eps as f32, out))
        }
        _ => composed::rms_norm(x, scale.clone(), eps),
    }
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
    let [b, c, h, w] = x.dims();
    match (Values::of(&x), Values::of(weight), Values::of(bias)) {
        (Some(values), Some(weight), Some(bias)) => cpu::tensor([b, c, h, w], |out| {
            kernels::group_norm(isa(), &values, [b, c, h * w], groups, &weight, &bias, eps as f32, activation, out)
        }),
        _ => composed::group_norm(x, groups, weight.clone(), bias.clone(), eps, activation),
    }
}

/// An activation function of each value.
pub fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
    cpu::map(
        x,
        |x| kernels::activate_in_place(isa(), f, x),
        |x, out| kernels::activate(isa(), f, x, out),
        |x| composed::activate(f, x),
    )
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
    match (Values::of(&x), Values::of(&gate)) {
        (Some(values), Some(gate)) => cpu::tensor(x.dims(), |out| kernels::gated(isa(), f, &values, &gate, out)),
        _ => composed::gated(f, x, gate),
    }
}

/// `x + y`, both of one shape.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    match (Values::of(&x), Values::of(&y)) {
        (Some(values), Some(y)) => cpu::tensor(x.dims(), |out| kernels::add(isa(), &values, &y, out)),
        _ => x + y,
    }
}

/// Doubles height and width by repeating pixels, `[b, c, h, w]` to `[b, c, 2h, 2w]`.
pub fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    match Values::of(&x) {
        Some(values) => cpu::tensor([b, c, 2 * h, 2 * w], |out| kernels::upsample_nearest_2x(&values, w, out)),
        None => composed::upsample_nearest_2x(x),
    }
}

/// Cosines and sines of a rotary position embedding, both `[1, 1, tokens, d / 2]`.
#[derive(Clone)]
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
        match (HeadsOf::of(&x), Values::of(&self.cos), Values::of(&self.sin)) {
            (Some(heads), Some(cos), Some(sin)) => {
                cpu::tensor(x.dims(), |out| kernels::rope(isa(), heads.view(), None, &cos, &sin, out))
            }
            _ => composed::rotate(x, self.cos.clone(), self.sin.clone()),
        }
    }

    /// [`rms_norm`] of each head, then [`Rope::rotate`].
    pub fn rotate_normed(&self, x: Tensor<4>, scale: &Tensor<1>, eps: f64) -> Tensor<4> {
        match (HeadsOf::of(&x), Values::of(scale), Values::of(&self.cos), Values::of(&self.sin)) {
            (Some(heads), Some(scale), Some(cos), Some(sin)) => cpu::tensor(x.dims(), |out| {
                kernels::rope(isa(), heads.view(), Some((&scale, eps as f32)), &cos, &sin, out)
            }),
            _ => self.rotate(rms_norm(x, scale, eps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tensor, values};

    fn close(found: &[f32], expected: &[f64]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f64::from(*f) - e).abs() < 1e-6, "{f} {e}");
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn the_gelus_agree_with_their_definitions() {
        let x: Vec<f32> = (-40..40).map(|i| i as f32 * 0.2).collect();
        let t = || tensor(x.clone(), [x.len()], &Device::flex());
        let of = |f: fn(f64) -> f64| x.iter().map(|&v| f(v.into())).collect::<Vec<_>>();
        let tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        close(&values(&gelu_tanh(t())), &of(tanh));
        close(&values(&quick_gelu(t())), &of(|x| x / (1.0 + (-1.702 * x).exp())));
    }

    #[test]
    fn an_activation_is_its_composition_of_a_tensor_of_its_own_and_of_a_view() {
        let x = random([3, 5, 7], 1);
        for f in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf, Activation::QuickGelu] {
            let expected = composed::activate(f, x.clone());
            agree(activate(f, x.clone()), expected.clone());
            agree(activate(f, x.clone().mul_scalar(1.0)), expected.clone());
            agree(activate(f, x.clone().narrow(2, 2, 3)), expected.clone().narrow(2, 2, 3));
            agree(activate(f, x.clone().swap_dims(0, 2)), expected.swap_dims(0, 2));
            agree(gated(f, random([3, 5, 7], 2), x.clone()), composed::gated(f, random([3, 5, 7], 2), x.clone()));
        }
        agree(add(x.clone(), random([3, 5, 7], 2)), x + random([3, 5, 7], 2));
    }

    #[test]
    fn a_tensor_that_somebody_else_holds_is_not_changed() {
        let x = random([40], 3);
        let before = values(&x);
        let _ = silu(x.clone());
        let _ = silu(x.clone().narrow(0, 10, 20));
        assert_eq!(values(&x), before);
    }

    #[test]
    fn a_norm_is_its_composition() {
        let (x, weight, bias) = (random([2, 3, 20], 4), random([20], 5), random([20], 6));
        agree(layer_norm(x.clone(), 1e-6), composed::layer_norm(x.clone(), 1e-6));
        agree(
            affine_layer_norm(x.clone(), &weight, &bias, 1e-5),
            composed::affine_layer_norm(x.clone(), weight.clone(), bias, 1e-5),
        );
        let all = random([2, 1, 60], 7);
        let part = |i: usize| all.clone().narrow(2, 20 * i, 20);
        agree(
            modulated_layer_norm(x.clone(), part(0), part(2), 1e-6),
            composed::modulated_layer_norm(x.clone(), part(0), part(2), 1e-6),
        );
        agree(rms_norm(x.clone(), &weight, 1e-6), composed::rms_norm(x, weight, 1e-6));
        let (x, weight, bias) = (random([2, 6, 3, 5], 8), random([6], 9), random([6], 10));
        for f in [None, Some(Activation::Silu)] {
            agree(
                group_norm(x.clone(), 3, &weight, &bias, 1e-6, f),
                composed::group_norm(x.clone(), 3, weight.clone(), bias.clone(), 1e-6, f),
            );
        }
    }

    #[test]
    fn attention_is_its_composition_for_heads_in_any_order() {
        // given heads as they come out of one layer, and as they come out of three
        let (b, heads, n, d) = (2, 3, 9, 8);
        let qkv = random([b, n, 3, heads, d], 11);
        let inside = |i| qkv.clone().narrow(2, i, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
        let apart = |i| random([b, heads, d, n], 12 + i).swap_dims(2, 3);
        let biases = || [Bias::Full(random([1, heads, n, n], 15)), Bias::Relative(random([heads, 2 * n - 1], 15))];
        for part in [&inside as &dyn Fn(usize) -> Tensor<4>, &|i| apart(i as u32)] {
            let qkv = || [part(0), part(1), part(2)];
            let [q, k, v] = qkv();
            // when they are attended to, then the way through memory makes no difference
            agree(
                attention(q.clone(), k.clone(), v.clone(), None, None),
                composed::attention(qkv(), None, None, false),
            );
            agree(causal_attention(q.clone(), k.clone(), v.clone()), composed::attention(qkv(), None, None, true));
            for bias in biases() {
                agree(
                    attention(q.clone(), k.clone(), v.clone(), Some(bias.clone()), Some(1.0)),
                    composed::attention(qkv(), Some(bias), Some(1.0), false),
                );
            }
        }
        // and neither does it for keys of another length
        let (q, k) = (random([b, heads, n, d], 16), random([b, heads, 5, d], 17));
        let qkv = || [q.clone(), k.clone(), k.clone()];
        let table = random([heads, n + 5 - 1], 18);
        for bias in [None, Some(Bias::Relative(table.clone()))] {
            let expected = composed::attention(qkv(), bias.clone(), None, false);
            agree(attention(q.clone(), k.clone(), k.clone(), bias, None), expected);
        }
        // A query's number for a key is that of their distance.
        let numbers = values(&table);
        let full = (0..heads).flat_map(|h| (0..n).flat_map(move |q| (0..5).map(move |k| h * (n + 4) + k + n - 1 - q)));
        let full = tensor(full.map(|i| numbers[i]).collect(), [1, heads, n, 5], &Device::flex());
        let expected = attention(q.clone(), k.clone(), k.clone(), Some(Bias::Full(full)), None);
        assert_eq!(values(&attention(q.clone(), k.clone(), k, Some(Bias::Relative(table)), None)), values(&expected));
    }

    #[test]
    fn merged_heads_are_the_memory_that_attention_wrote() {
        let x = random([1, 2, 4, 8], 18);
        let attended = attention(x.clone(), x.clone(), x, None, None);
        let pointer = |x: &Tensor<3>| Values::of(x).unwrap().as_ptr();
        let memory = attended.clone().swap_dims(1, 2).flatten::<3>(2, 3);
        assert_eq!(pointer(&merge_heads(attended)), pointer(&memory));
    }

    #[test]
    fn a_rotation_is_its_composition() {
        let rope = Rope::new(&[[0.0], [1.0], [5.0], [7.0]], [8], 100.0, &Device::flex());
        let x = random([2, 4, 3, 8], 19).swap_dims(1, 2); // b h n d
        agree(rope.rotate(x.clone()), composed::rotate(x.clone(), rope.cos.clone(), rope.sin.clone()));
        let scale = random([8], 20);
        agree(rope.rotate_normed(x.clone(), &scale, 1e-6), rope.rotate(composed::rms_norm(x.clone(), scale, 1e-6)));
        agree(rope.narrow(1, 2).rotate(x.clone().narrow(2, 1, 2)), rope.rotate(x).narrow(2, 1, 2));
    }

    #[test]
    fn upsampling_is_its_composition() {
        let x = random([2, 3, 4, 5], 21);
        agree(upsample_nearest_2x(x.clone()), composed::upsample_nearest_2x(x));
    }

    #[test]
    fn another_number_format_is_composed() {
        let x = random([1, 2, 4, 8], 22).cast(burn::tensor::DType::F64);
        assert_eq!(silu(x.clone()).dtype(), x.dtype());
        assert_eq!(layer_norm(x.clone(), 1e-6).dtype(), x.dtype());
        assert_eq!(attention(x.clone(), x.clone(), x.clone(), None, None).dtype(), x.dtype());
    }

    #[test]
    fn upsampling_repeats_each_pixel_in_both_directions() {
        let x = tensor(vec![1.0, 2.0, 3.0, 4.0], [1, 1, 2, 2], &Device::flex());
        let y = values(&upsample_nearest_2x(x));
        assert_eq!(y, [1., 1., 2., 2., 1., 1., 2., 2., 3., 3., 4., 4., 3., 3., 4., 4.]);
    }

    #[test]
    fn a_rotation_by_position_zero_changes_nothing_and_keeps_length_elsewhere() {
        let rope = Rope::new(&[[0.0, 0.0], [3.0, 5.0]], [4, 4], 10_000.0, &Device::flex());
        let x: Vec<f32> = (0..16).map(|i| i as f32 - 7.0).collect();
        let y = values(&rope.rotate(tensor(x.clone(), [1, 1, 2, 8], &Device::flex())));
        assert_eq!(y[..8], x[..8]);
        let square = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        assert!((square(&y[8..]) - square(&x[8..])).abs() < 1e-3);
        assert_ne!(y[8..], x[8..]);
    }

    fn random<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
        let bits = std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
        let values = bits.skip(3).map(|x| (x >> 8) as f32 / (1 << 23) as f32 - 1.0);
        tensor(values.take(shape.iter().product()).collect(), shape, &Device::flex())
    }

    fn agree<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
        assert_eq!(found.dims(), expected.dims());
        for (f, e) in values(&found).iter().zip(values(&expected)) {
            assert!((f - e).abs() < 1e-5, "{f} {e}");
        }
    }
}
