//! The operations as compositions of Burn's simplest, right on every back end and in every number format: what the other bodies are
//! held against.

use burn::tensor::activation::{sigmoid, softmax};

use super::{Activation, Ops, Rope, Scores, matmul};
use crate::Tensor;

/// The body in which every operation is composed.
#[derive(Debug)]
pub struct Composed;

impl Ops for Composed {}

pub(super) fn attention([q, k, v]: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
    let ([b, heads, n, d], m) = (q.dims(), k.dims()[2]);
    let products = matmul(q, k.swap_dims(2, 3)) * scores.scale_of(d); // b heads n m
    let biased = match &scores.bias {
        Some(bias) => products + bias.full(n, m),
        None => products,
    };
    let seen = match scores.mask.hidden([b, heads, n, m], &biased.device()) {
        Some(hidden) => biased.mask_fill(hidden, f64::NEG_INFINITY),
        None => biased,
    };
    matmul(softmax(seen, 3), v)
}

pub(super) fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
    match f {
        Activation::Silu => x.clone() * sigmoid(x),
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
        Activation::GeluErf => x.clone() * ((x / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5,
        Activation::GeluTanh => {
            // A sigmoid is the same function: 0.5 · (1 + tanh(y)) = sigmoid(2y).
            let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            let inner = (x.clone() * x.clone() * 0.044715 + 1.0) * x.clone() * scale;
            x * sigmoid(inner)
        }
    }
}

pub(super) fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + eps).sqrt()
}

pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
    let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
    x / (mean_square + eps).sqrt() * scale.clone().unsqueeze()
}

pub(super) fn group_norm(
    x: Tensor<4>,
    groups: usize,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
    activation: Option<Activation>,
) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let normal = layer_norm(x.reshape([b * groups, c / groups * h * w]), eps).reshape([b, c, h, w]);
    let scaled = normal * weight.clone().reshape([1, c, 1, 1]) + bias.clone().reshape([1, c, 1, 1]);
    match activation {
        Some(f) => activate(f, scaled),
        None => scaled,
    }
}

pub(super) fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h, 1, w, 1]).expand([b, c, h, 2, w, 2]).reshape([b, c, h * 2, w * 2])
}

pub(super) fn join_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    Tensor::cat(vec![x, y], 1)
}

pub(super) fn tokens(x: Tensor<4>) -> Tensor<3> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h * w]).swap_dims(1, 2) // b (h w) c
}

pub(super) fn pixels(x: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [b, _, c] = x.dims();
    x.swap_dims(1, 2).reshape([b, c, h, w]) // b c h w
}

pub(super) fn rotate(x: Tensor<4>, rope: &Rope) -> Tensor<4> {
    let [b, h, n, d] = x.dims();
    let [cos, sin] = [&rope.cos, &rope.sin].map(|table| table.clone().cast(x.dtype()));
    let pairs = x.reshape([b, h, n, d / 2, 2]);
    let even = pairs.clone().narrow(4, 0, 1).reshape([b, h, n, d / 2]);
    let odd = pairs.narrow(4, 1, 1).reshape([b, h, n, d / 2]);
    let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let second = even * sin + odd * cos;
    Tensor::stack::<5>(vec![first, second], 4).reshape([b, h, n, d])
}
