//! Operations without parameters. Models call these and never a back end's own, so that a faster body reaches them all.

use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;

pub use burn::tensor::activation::{silu, softmax};

use crate::{Device, Tensor};

/// Scaled dot-product attention: `softmax(q · kᵀ · scale + bias) · v` over `[b, heads, tokens, d]`.
///
/// `bias` is added to the scores, `[1, heads, q tokens, k tokens]`; `scale` is `1 / sqrt(d)` where `None`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Tensor<4>>, scale: Option<f64>) -> Tensor<4> {
    module::attention(q, k, v, None, bias, AttentionModuleOptions { scale, softcap: None, is_causal: false })
}

/// [`attention`] in which a token sees only itself and those before it.
pub fn causal_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    module::attention(q, k, v, None, None, AttentionModuleOptions { scale: None, softcap: None, is_causal: true })
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
    let ones = Tensor::ones([x.dims()[D - 1]], &x.device());
    module::layer_norm(x, ones, None, eps)
}

/// GELU by its tanh approximation: `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
///
/// Written with a sigmoid, which is the same function: `0.5 · (1 + tanh(y)) = sigmoid(2y)`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = (x.clone() * x.clone() * 0.044715 + 1.0) * x.clone() * scale;
    x * burn::tensor::activation::sigmoid(inner)
}

/// GELU by the error function.
pub fn gelu_erf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::gelu(x)
}

/// `x · sigmoid(1.702 · x)`, the approximation that OpenAI's CLIP was trained with.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() * burn::tensor::activation::sigmoid(x * 1.702)
}

/// Doubles height and width by repeating pixels, `[b, c, h, w]` to `[b, c, 2h, 2w]`.
pub fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h, 1, w, 1]).expand([b, c, h, 2, w, 2]).reshape([b, c, h * 2, w * 2])
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

    /// Rotates each pair of neighbouring channels of `[b, heads, tokens, d]`.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, n, d] = x.dims();
        let pairs = x.reshape([b, h, n, d / 2, 2]);
        let even = pairs.clone().narrow(4, 0, 1).reshape([b, h, n, d / 2]);
        let odd = pairs.narrow(4, 1, 1).reshape([b, h, n, d / 2]);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
        let second = even * sin + odd * cos;
        Tensor::stack::<5>(vec![first, second], 4).reshape([b, h, n, d])
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
}
