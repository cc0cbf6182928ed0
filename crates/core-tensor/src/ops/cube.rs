//! The operations on Burn's back ends for GPUs, which have attention and layer normalisation in one piece.

use burn::tensor::{module, ops::AttentionModuleOptions};

use super::{Mask, Ops, Scores};
use crate::{Compute, Tensor, in_format_of};

/// The body of devices other than the CPU. Products are computed in the number format of their factors.
#[derive(Debug)]
pub struct Cube;

impl Ops for Cube {
    fn attention(_: Compute, [q, k, v]: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
        let ([b, heads, n, d], m) = (q.dims(), k.dims()[2]);
        // Burn counts a causal mask from the last key, which is the same for as many queries as keys alone.
        let is_causal = matches!(scores.mask, Mask::Causal) && n == m;
        let hidden = if is_causal { None } else { scores.mask.hidden([b, heads, n, m], &q.device()) };
        let bias = scores.bias.as_ref().map(|bias| bias.full(n, m).expand([b, heads, n, m]));
        let bias = bias.map(|bias| in_format_of(bias, &q));
        let options = AttentionModuleOptions { scale: Some(scores.scale_of(d)), softcap: None, is_causal };
        module::attention(q, k, v, hidden, bias, options)
    }

    fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
        let ones = Tensor::ones([x.dims()[D - 1]], (&x.device(), x.dtype()));
        module::layer_norm(x, ones, None, eps)
    }

    fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
        module::layer_norm(x, weight.clone(), Some(bias.clone()), eps)
    }
}
