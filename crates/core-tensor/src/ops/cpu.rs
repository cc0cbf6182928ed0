//! The operations as kernels of ours, on tensors of the CPU back end in f32.

use kernels::{Affine, Heads};

use super::{Activation, Bias, Mask, Ops, Rope, Scores, composed};
use crate::{
    Compute, Tensor,
    cpu::{self, HeadsOf, PIXELS, PLANES, Values, isa},
};

/// The body of f32 tensors on the CPU.
///
/// # Panics
/// In every operation, if an operand has another device or number format.
#[derive(Debug)]
pub struct Cpu;

const SAME: &str = "the operands of an operation have one device and one number format";

fn slice<const D: usize>(x: &Tensor<D>) -> Values {
    Values::of(x).expect(SAME)
}

fn by_pixels(x: &Tensor<4>) -> Values {
    Values::by_pixels(x).expect(SAME)
}

fn heads(x: &Tensor<4>) -> HeadsOf {
    HeadsOf::of(x).expect(SAME)
}

impl Ops for Cpu {
    fn attention(compute: Compute, [q, k, v]: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
        let [b, count, n, d] = q.dims();
        let [q, k, v] = [heads(&q), heads(&k), heads(&v)];
        let biases = scores.bias.as_ref().map(|bias| match bias {
            Bias::Full(all) => slice(all),
            Bias::Relative(table) => slice(table),
        });
        let bias = scores.bias.as_ref().zip(biases.as_deref()).map(|(bias, values)| match bias {
            Bias::Full(_) => kernels::Bias::Full(values),
            Bias::Relative(_) => kernels::Bias::Relative(values),
        });
        let mask = match &scores.mask {
            Mask::None => kernels::Mask::None,
            Mask::Causal => kernels::Mask::Causal,
            Mask::Keys(seen) => kernels::Mask::Keys(seen),
        };
        let scores = kernels::Scores { scale: scores.scale_of(d) as f32, bias, mask };
        let [q, k, v]: [Heads; 3] = [q.view(), k.view(), v.view()];
        cpu::tensor([b, n, count, d], |out| kernels::attention(isa(), compute, q, k, v, scores, out)).swap_dims(1, 2) // b heads n d
    }

    fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
        normalised(x, eps, Affine::None)
    }

    fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Tensor<D> {
        normalised(x, eps, Affine::Columns { weight: &slice(weight), bias: Some(&slice(bias)) })
    }

    fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
        let rows = x.dims()[1];
        normalised(x, eps, Affine::Modulated { scale: &slice(&scale), shift: &slice(&shift), rows })
    }

    fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
        let (shape, x, scale) = (x.dims(), slice(&x), slice(scale));
        cpu::tensor(shape, |out| kernels::rms_norm(isa(), &x, shape[D - 1], &scale, eps as f32, out))
    }

    fn group_norm(
        x: Tensor<4>,
        groups: usize,
        weight: &Tensor<1>,
        bias: &Tensor<1>,
        eps: f64,
        activation: Option<Activation>,
    ) -> Tensor<4> {
        let ([b, c, h, w], weight, bias) = (x.dims(), slice(weight), slice(bias));
        if cpu::is_by_pixels(&x) {
            let (x, shape) = (by_pixels(&x), [b, h * w, c]);
            let affines = kernels::Affines::of_groups(isa(), &x, shape, groups, &weight, &bias, eps as f32);
            return cpu::tensor([b, h, w, c], |out| affines.apply(isa(), &x, shape, activation, out)).permute(PLANES);
        }
        let x = slice(&x);
        cpu::tensor([b, c, h, w], |out| {
            kernels::group_norm(isa(), &x, [b, c, h * w], groups, &weight, &bias, eps as f32, activation, out)
        })
    }

    fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
        cpu::map(x, |x| kernels::activate_in_place(isa(), f, x), |x, out| kernels::activate(isa(), f, x, out))
    }

    fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
        let (shape, x, gate) = (x.dims(), slice(&x), slice(&gate));
        cpu::tensor(shape, |out| kernels::gated(isa(), f, &x, &gate, out))
    }

    fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        let (shape, x, y) = (x.dims(), slice(&x), slice(&y));
        cpu::tensor(shape, |out| kernels::add(isa(), &x, &y, out))
    }

    fn add_maps(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        if !cpu::is_by_pixels(&x) {
            return Self::add(x, y);
        }
        let ([b, c, h, w], x, y) = (x.dims(), by_pixels(&x), by_pixels(&y));
        cpu::tensor([b, h, w, c], |out| kernels::add(isa(), &x, &y, out)).permute(PLANES)
    }

    fn join_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
        if !cpu::is_by_pixels(&x) {
            return composed::join_channels(x, y);
        }
        let ([b, first, h, w], [_, second, _, _]) = (x.dims(), y.dims());
        let (x, y) = (by_pixels(&x), by_pixels(&y));
        cpu::tensor([b, h, w, first + second], |out| kernels::join_channels(&x, &y, [first, second], out))
            .permute(PLANES)
    }

    fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        if cpu::is_by_pixels(&x) {
            let x = by_pixels(&x);
            let doubled = cpu::tensor([b, 2 * h, 2 * w, c], |out| kernels::upsample_pixels_2x(&x, [w, c], out));
            return doubled.permute(PLANES);
        }
        let x = slice(&x);
        cpu::tensor([b, c, 2 * h, 2 * w], |out| kernels::upsample_nearest_2x(&x, w, out))
    }

    fn tokens(x: Tensor<4>) -> Tensor<3> {
        let [b, c, h, w] = x.dims();
        cpu::row_major(x.permute(PIXELS)).reshape([b, h * w, c])
    }

    fn pixels(x: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
        let [b, n, c] = x.dims();
        assert_eq!(n, h * w, "as many tokens as pixels");
        // Not copied here: a convolution that sees planes does that, and one that sees pixels need not.
        cpu::row_major(x).reshape([b, h, w, c]).permute(PLANES)
    }

    fn rotate(x: Tensor<4>, norm: Option<(&Tensor<1>, f64)>, rope: &Rope) -> Tensor<4> {
        let (shape, x, cos, sin) = (x.dims(), heads(&x), slice(&rope.cos), slice(&rope.sin));
        let norm = norm.map(|(scale, eps)| (slice(scale), eps as f32));
        let norm = norm.as_ref().map(|(scale, eps)| (&**scale, *eps));
        cpu::tensor(shape, |out| kernels::rope(isa(), x.view(), norm, &cos, &sin, out))
    }
}

fn normalised<const D: usize>(x: Tensor<D>, eps: f64, how: Affine) -> Tensor<D> {
    let (shape, x) = (x.dims(), slice(&x));
    cpu::tensor(shape, |out| kernels::layer_norm(isa(), &x, shape[D - 1], eps as f32, how, out))
}
