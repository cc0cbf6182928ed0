//! The operations as compositions of Burn's own, right on every back end.

use burn::tensor::{activation, module, ops::AttentionModuleOptions};

use crate::{
    Tensor,
    ops::{Activation, Bias},
};

pub(super) fn attention(
    [q, k, v]: [Tensor<4>; 3],
    bias: Option<Bias>,
    scale: Option<f64>,
    is_causal: bool,
) -> Tensor<4> {
    let bias = bias.map(|bias| match bias {
        Bias::Full(all) => all,
        Bias::Relative(table) => expanded(table, q.dims()[2], k.dims()[2]),
    });
    module::attention(q, k, v, None, bias, AttentionModuleOptions { scale, softcap: None, is_causal })
}

/// `[heads, n + m - 1]` to `[1, heads, n, m]`: each query's row begins one distance before the last one's.
fn expanded(table: Tensor<2>, n: usize, m: usize) -> Tensor<4> {
    let rows = (0..n).map(|q| table.clone().narrow(1, n - 1 - q, m)).collect();
    Tensor::stack::<3>(rows, 1).unsqueeze() // 1 heads n m
}

pub(super) fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
    match f {
        Activation::Silu => activation::silu(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::GeluErf => activation::gelu(x),
        Activation::GeluTanh => {
            // A sigmoid is the same function: 0.5 · (1 + tanh(y)) = sigmoid(2y).
            let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            let inner = (x.clone() * x.clone() * 0.044715 + 1.0) * x.clone() * scale;
            x * activation::sigmoid(inner)
        }
    }
}

pub(super) fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let ones = Tensor::ones([x.dims()[D - 1]], (&x.device(), x.dtype()));
    module::layer_norm(x, ones, None, eps)
}

pub(super) fn affine_layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    module::layer_norm(x, weight, Some(bias), eps)
}

pub(super) fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
    layer_norm(x, eps) * (scale + 1.0) + shift
}

pub(super) fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
    activate(f, gate) * x
}

pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, scale: Tensor<1>, eps: f64) -> Tensor<D> {
    let mean_square = x.clone().powi_scalar(2).mean_dim(D - 1);
    x / (mean_square + eps).sqrt() * scale.unsqueeze()
}

pub(super) fn group_norm(
    x: Tensor<4>,
    groups: usize,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
    activation: Option<Activation>,
) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let rows = x.reshape([b * groups, c / groups * h * w]);
    let centred = rows.clone() - rows.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normal = (centred / (variance + eps).sqrt()).reshape([b, c, h, w]);
    let scaled = normal * weight.reshape([1, c, 1, 1]) + bias.reshape([1, c, 1, 1]);
    match activation {
        Some(f) => activate(f, scaled),
        None => scaled,
    }
}

pub(super) fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h, 1, w, 1]).expand([b, c, h, 2, w, 2]).reshape([b, c, h * 2, w * 2])
}

pub(super) fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [b, h, n, d] = x.dims();
    let pairs = x.reshape([b, h, n, d / 2, 2]);
    let even = pairs.clone().narrow(4, 0, 1).reshape([b, h, n, d / 2]);
    let odd = pairs.narrow(4, 1, 1).reshape([b, h, n, d / 2]);
    let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let second = even * sin + odd * cos;
    Tensor::stack::<5>(vec![first, second], 4).reshape([b, h, n, d])
}
