//! The operations on graphics cards: kernels of ours, and Burn's where there is none for a shape.

use super::{Activation, Bias, Composed, Mask, Ops, Rope, Scores, Stream};
use crate::{
    Compute, Tensor,
    gpu::{self, HeadsOfStream, Norm, Scoring},
};

/// The body of devices that [`crate::gpu`] has kernels for.
#[derive(Debug)]
pub struct Own;

impl Ops for Own {
    fn attention(compute: Compute, qkv: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
        let (relative, full) = match &scores.bias {
            None => (None, None),
            Some(Bias::Relative(table)) => (Some(table), None),
            Some(Bias::Full(all)) => (None, Some(all)),
        };
        let (is_causal, seen) = match &scores.mask {
            Mask::None => (false, None),
            Mask::Causal => (true, None),
            Mask::Keys(seen) => (false, Some(&**seen)),
        };
        let scale = scores.scale_of(qkv[0].dims()[3]);
        let attended = gpu::attend(&qkv, &Scoring { scale, relative, full, is_causal, seen });
        attended.unwrap_or_else(|| Composed::attention(compute, qkv, scores))
    }

    fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
        gpu::norm(x, Norm { eps, ..Norm::default() })
    }

    fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
        gpu::norm(x, Norm { weight: Some(weight), bias: Some(bias), eps, ..Norm::default() })
    }

    fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
        gpu::norm(x, Norm { modulation: Some([&shift, &scale]), eps, ..Norm::default() })
    }

    fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
        gpu::norm(x, Norm { is_rms: true, weight: Some(scale), eps, ..Norm::default() })
    }

    fn group_norm(
        x: Tensor<4>,
        groups: usize,
        weight: &Tensor<1>,
        bias: &Tensor<1>,
        eps: f64,
        activation: Option<Activation>,
    ) -> Tensor<4> {
        gpu::group_norm(x, groups, [weight, bias], eps, activation)
    }

    fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
        gpu::activate(f, x)
    }

    fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
        gpu::gated(f, x, gate)
    }

    fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        gpu::add(x, y)
    }

    fn add_maps(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        gpu::add_maps(x, y)
    }

    fn join_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        gpu::channels_joined(x, y)
    }

    fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
        gpu::upsampled(x)
    }

    fn tokens(x: Tensor<4>) -> Tensor<3> {
        gpu::tokens(x)
    }

    fn pixels(x: Tensor<3>, size: [usize; 2]) -> Tensor<4> {
        gpu::pixels(x, size)
    }

    fn rotate(x: Tensor<4>, norm: Option<(&Tensor<1>, f64)>, rope: &Rope) -> Tensor<4> {
        let (norm, eps) = norm.map_or((None, 0.0), |(scale, eps)| (Some(scale), eps));
        let [turned] = gpu::rotate([[HeadsOfStream { x, norm, is_rotated: true }]], eps, [&rope.cos, &rope.sin]);
        turned
    }

    fn heads_joined<const N: usize>(streams: [Stream; N], eps: f64, rope: &Rope) -> [Tensor<4>; 3] {
        let part = |i: usize| {
            streams.each_ref().map(|Stream { heads, norms }| {
                let norm = norms.get(i).copied();
                HeadsOfStream { x: heads[i].clone(), norm, is_rotated: norm.is_some() }
            })
        };
        if N == 1 {
            let [q, k] = gpu::rotate([part(0), part(1)], eps, [&rope.cos, &rope.sin]);
            let [Stream { heads: [.., v], .. }, ..] = &streams[..] else { unreachable!("a stream") };
            return [q, k, v.clone()];
        }
        gpu::rotate([part(0), part(1), part(2)], eps, [&rope.cos, &rope.sin])
    }
}
