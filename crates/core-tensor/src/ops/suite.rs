//! Every operation of a body against [`Composed`] in f64 on the CPU, on inputs that the body's number format has: heads out of one
//! layer and of three, views, rows of odd lengths.

use std::borrow::Cow;

use std::sync::Arc;

use burn::tensor::DType;

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use super::Own;
use super::{Activation, Bias, Composed, Cpu, Cube, Home, Mask, Ops, Rope, Scores, Stream, dtype_on, matmul};
use crate::{Compute, Device, Error, Tensor, tensor};

/// Where a body is held against the composition.
#[derive(Debug)]
pub struct Setting {
    /// Where its tensors are.
    pub device: Device,
    /// Their number format.
    pub dtype: DType,
    /// What attention's products are computed in.
    pub compute: Compute,
}

/// How far an operation is from its composition.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The operation, and what is particular about its inputs.
    pub operation: Cow<'static, str>,
    /// The norm of the differences as a share of the norm of what is expected; infinite for values that are no numbers, and for a
    /// result of another size.
    pub share: f64,
}

impl Difference {
    /// Of values from those that are expected.
    pub fn between(operation: String, found: &[f32], expected: &[f32]) -> Self {
        let [found, expected] =
            [found, expected].map(|values| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        Self { operation: operation.into(), share: share(&found, &expected) }
    }
}

/// The difference of each operation.
///
/// # Errors
/// [`Error::DeviceMemory`] or [`Error::DeviceFault`] where the device could not compute one.
pub fn differences<O: Ops>(setting: &Setting) -> Result<Vec<Difference>, Error> {
    let rounded = setting.dtype;
    let found = results::<O>(&Inputs { device: setting.device.clone(), dtype: rounded, rounded }, setting.compute);
    let expected = results::<Composed>(&Inputs { device: Device::flex(), dtype: DType::F64, rounded }, Compute::F32);
    let difference = |((operation, found), (_, expected)): (Named, Named)| {
        Ok(Difference { operation: operation.into(), share: share(&found?, &expected?) })
    };
    found.into_iter().zip(expected).map(difference).collect()
}

/// The differences of the body that a model's tensors reach on a device, where products are computed in `compute`.
///
/// # Errors
/// As [`differences`].
pub fn of_device(device: &Device, compute: Compute) -> Result<Vec<Difference>, Error> {
    let dtype = dtype_on(device, compute);
    let setting = Setting { device: device.clone(), dtype, compute };
    match Home::of(&Tensor::<1>::empty([1], (device, dtype))) {
        Home::Cpu => differences::<Cpu>(&setting),
        Home::Cube => differences::<Cube>(&setting),
        #[cfg(any(feature = "cuda", feature = "vulkan"))]
        Home::Own => differences::<Own>(&setting),
        Home::Composed => differences::<Composed>(&setting),
    }
}

/// An operation's name and its result.
type Named = (&'static str, Result<Vec<f64>, Error>);

/// How far values are from what is expected, as a [`Difference`] has it.
pub(crate) fn share(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / norm(&mut expected.iter().copied());
    if apart.is_finite() && found.len() == expected.len() { apart } else { f64::INFINITY }
}

fn results<O: Ops>(x: &Inputs, compute: Compute) -> Vec<Named> {
    let all = [
        attention::<O>(x, compute),
        products(x),
        norms::<O>(x),
        functions::<O>(x),
        pictures::<O>(x),
        rotations::<O>(x),
    ];
    all.into_iter().flatten().collect()
}

fn attention<O: Ops>(x: &Inputs, compute: Compute) -> Vec<Named> {
    let (b, heads, n, m, d) = (2, 3, 19, 45, 24);
    let fused = x.of([b, n, 3 * heads, d], 1);
    let inside = |i| fused.clone().narrow(2, i * heads, heads).swap_dims(1, 2); // b h n d
    let across = |i: u32, tokens| x.of([b, heads, d, tokens], 2 + i).swap_dims(2, 3); // b h n d
    let own = || [inside(0), inside(1), inside(2)];
    let other = || [across(0, n), across(1, m), across(2, m)];
    let relative = |m: usize| Some(Bias::Relative(x.of([heads, n + m - 1], 5) * 4.0));
    let full = || Some(Bias::Full(x.of([1, heads, n, m], 6) * 4.0));
    let lengths = |tokens| Mask::of_lengths(&[tokens / 3, tokens], tokens);
    let scattered: Arc<[bool]> = (0..b * m).map(|i| i % m >= 7 && i % 3 != 0).collect();
    let scores = |bias, mask| Scores { scale: None, bias, mask };
    // Heads of as many channels as no kernel reads at once.
    let odd = |d| [0, 1, 2].map(|i| x.of([b, heads, m, d], 7 + i));
    let named = |name, qkv, scores: Scores| (name, numbers(O::attention(compute, qkv, &scores)));
    vec![
        named("attention", own(), Scores::default()),
        named("attention, scaled", own(), Scores { scale: Some(1.0), ..Scores::default() }),
        named("attention, causal", own(), scores(None, Mask::Causal)),
        named("attention, lengths", own(), scores(None, lengths(n))),
        named("attention, relative", own(), scores(relative(n), Mask::None)),
        named("attention, relative and lengths", own(), scores(relative(n), lengths(n))),
        named("attention, relative and causal", own(), scores(relative(n), Mask::Causal)),
        named("attention, 12 channels", odd(12), Scores::default()),
        named(
            "attention, 5 channels, relative and causal",
            odd(5),
            scores(Some(Bias::Relative(x.of([heads, 2 * m - 1], 5) * 4.0)), Mask::Causal),
        ),
        named("attention to others", other(), Scores::default()),
        named("attention to others, some keys", other(), scores(None, Mask::Keys(scattered.clone()))),
        named("attention to others, causal", other(), scores(None, Mask::Causal)),
        named("attention to others, relative", other(), scores(relative(m), Mask::None)),
        named("attention to others, full", other(), scores(full(), Mask::None)),
        named("attention to others, full and some keys", other(), scores(full(), Mask::Keys(scattered))),
    ]
}

fn products(x: &Inputs) -> Vec<Named> {
    let of = |a, b| numbers(matmul::<4>(a, b));
    let turned = || x.of([2, 3, 29, 21], 53).swap_dims(2, 3);
    vec![
        ("matmul", of(x.of([2, 3, 17, 29], 50), x.of([2, 3, 29, 40], 51))),
        ("matmul of views, one for all", of(turned(), x.of([1, 1, 31, 29], 52).narrow(2, 1, 30).swap_dims(2, 3))),
    ]
}

fn norms<O: Ops>(x: &Inputs) -> Vec<Named> {
    let (b, n, d, eps) = (2, 7, 53, 1e-5);
    let rows = || x.of([b, n, d], 10);
    let view = || x.of([b, d, n + 3], 11).narrow(2, 2, n).swap_dims(1, 2); // b n d
    let (weight, bias) = (x.of([d], 12), x.of([d], 13));
    let modulation = x.of([b, 1, 3 * d], 14);
    let part = |i| modulation.clone().narrow(2, d * i, d);
    vec![
        ("layer_norm", numbers(O::layer_norm(rows(), eps))),
        ("layer_norm of a view", numbers(O::layer_norm(view(), eps))),
        ("affine_layer_norm", numbers(O::affine_layer_norm(rows(), &weight, &bias, eps))),
        ("modulated_layer_norm", numbers(O::modulated_layer_norm(view(), part(0), part(2), eps))),
        ("rms_norm", numbers(O::rms_norm(rows(), &weight, eps))),
        ("rms_norm of a view", numbers(O::rms_norm(view(), &weight, eps))),
    ]
}

fn functions<O: Ops>(x: &Inputs) -> Vec<Named> {
    let values = || x.of([3, 5, 37], 20) * 6.0;
    let view = || (x.of([37, 9, 3], 21) * 6.0).narrow(1, 1, 5).swap_dims(0, 2);
    let of = |name, f| (name, numbers(O::activate(f, values())));
    vec![
        of("silu", Activation::Silu),
        of("gelu_tanh", Activation::GeluTanh),
        of("gelu_erf", Activation::GeluErf),
        of("quick_gelu", Activation::QuickGelu),
        ("silu of a view", numbers(O::activate(Activation::Silu, view()))),
        ("gated", numbers(O::gated(Activation::GeluTanh, values(), view()))),
        ("add", numbers(O::add(values(), view()))),
    ]
}

fn pictures<O: Ops>(x: &Inputs) -> Vec<Named> {
    let picture = || x.of([2, 6, 5, 9], 30);
    let (weight, bias) = (x.of([6], 31), x.of([6], 32));
    let norm = |f| numbers(O::group_norm(picture(), 3, &weight, &bias, 1e-6, f));
    let by_pixels = || x.of([2, 5, 9, 6], 34).permute([0, 3, 1, 2]); // b c h w
    let silu = Some(Activation::Silu);
    vec![
        ("group_norm", norm(None)),
        ("group_norm, silu", norm(Some(Activation::Silu))),
        ("group_norm by pixels, silu", numbers(O::group_norm(by_pixels(), 3, &weight, &bias, 1e-6, silu))),
        ("add_maps", numbers(O::add_maps(picture(), by_pixels()))),
        ("add_maps by pixels", numbers(O::add_maps(by_pixels(), picture()))),
        ("join_channels", numbers(O::join_channels(picture(), by_pixels()))),
        ("join_channels by pixels", numbers(O::join_channels(by_pixels(), picture().narrow(1, 1, 4)))),
        ("tokens by pixels", numbers(O::tokens(by_pixels()))),
        ("upsample_nearest_2x by pixels", numbers(O::upsample_nearest_2x(by_pixels()))),
        ("upsample_nearest_2x", numbers(O::upsample_nearest_2x(picture()))),
        ("tokens", numbers(O::tokens(picture()))),
        ("tokens of a view", numbers(O::tokens(picture().narrow(1, 2, 3).swap_dims(2, 3)))),
        ("pixels", numbers(O::pixels(x.of([2, 45, 6], 33), [5, 9]))),
        ("pixels of a view", numbers(O::pixels(x.of([2, 6, 45], 33).swap_dims(1, 2), [9, 5]))),
        ("upsample_nearest_2x of a view", numbers(O::upsample_nearest_2x(picture().narrow(3, 2, 5).swap_dims(2, 3)))),
    ]
}

fn rotations<O: Ops>(x: &Inputs) -> Vec<Named> {
    let ids: Vec<[f32; 2]> = (0..11).map(|i| [i as f32, (i * i % 7) as f32]).collect();
    let rope = Rope::new(&ids, [8, 16], 10_000.0, &x.device);
    let heads = || x.of([2, 11, 3, 24], 40).swap_dims(1, 2); // b h n d
    let (scale, other) = (x.of([24], 41), x.of([24], 42));
    let few = || x.of([2, 4, 9, 24], 43).narrow(2, 3, 3).swap_dims(1, 2); // b h n d
    let many = || x.of([2, 7, 3, 24], 44).swap_dims(1, 2); // b h n d
    let stream = |q: Tensor<4>| Stream { heads: [q.clone(), q.clone() * 3.0, q * 5.0], norms: [&scale, &other] };
    let of_three = |all: [Tensor<4>; 3]| numbers(Tensor::cat(all.into(), 0));
    vec![
        ("rotate", numbers(O::rotate(heads(), None, &rope))),
        ("rotate, normed", numbers(O::rotate(heads(), Some((&scale, 1e-6)), &rope))),
        ("rotate, a part", numbers(O::rotate(heads().narrow(2, 3, 4), None, &rope.narrow(3, 4)))),
        ("rotate, streams", numbers(O::rotate_joined([(few(), &scale), (many(), &other)], 1e-6, &rope))),
        ("join_tokens", numbers(O::join_tokens([few(), many()]))),
        ("heads of two streams", of_three(O::heads_joined([stream(few()), stream(many())], 1e-6, &rope))),
        ("heads of one stream", of_three(O::heads_joined([stream(heads())], 1e-6, &rope))),
    ]
}

/// Tensors of the same values everywhere.
struct Inputs {
    device: Device,
    dtype: DType,
    /// The number format that the values are rounded to first.
    rounded: DType,
}

impl Inputs {
    /// Values between -1 and 1.
    fn of<const D: usize>(&self, shape: [usize; D], seed: u32) -> Tensor<D> {
        let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let bits = std::iter::successors(Some(seed.wrapping_mul(747_796_405)), next);
        let values = bits.skip(3).map(|x| (x >> 8) as f32 / (1 << 23) as f32 - 1.0);
        let all = tensor(values.take(shape.iter().product()).collect(), shape, &Device::flex());
        all.cast(self.rounded).cast(self.dtype).to_device(&self.device)
    }
}

pub(crate) fn numbers<const D: usize>(x: Tensor<D>) -> Result<Vec<f64>, Error> {
    crate::read(&x)
}
