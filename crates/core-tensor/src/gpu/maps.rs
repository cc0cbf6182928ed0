//! Maps `[b, c, h, w]`, whose channels lie side by side pixel by pixel.

use burn::tensor::DType;
use kernels::{Activation, Compute, Values};
use rayon::prelude::*;

use super::{
    View, bytes_of, dtype_of,
    kernel::{Args, Kernel, Text, activation, bits, element},
    language::Language,
    product,
    rows::{self, cast, each},
    takes,
    wgsl::{WIDE, wide},
};
use crate::{Device, Tensor, cpu::FEW};

static GROUP_NORM: Text = Text::of(include_str!("cuda/group_norm.cu"), include_str!("wgsl/group_norm.wgsl"), &[]);
static TRANSPOSE: Text = Text::of(include_str!("cuda/transpose.cu"), include_str!("wgsl/transpose.wgsl"), &[]).folded();

/// Channels that a convolution reads are a multiple of this; missing ones are 0.
const UNIT: usize = 8;

/// Parameters of a convolution: `[c_out, kernel, kernel, c_in]`, `c_in` filled up with 0.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    weight: Tensor<2>,
    compute: Compute,
    c_out: usize,
    c_in: usize,
    kernel: usize,
}

/// Where a convolution begins and how far it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Zeros above and to the left.
    pub(crate) pad: usize,
    pub(crate) stride: usize,
    /// Height and width of the result; whatever it sees beyond the input is 0.
    pub(crate) size: [usize; 2],
}

/// Parameters `[c_out, c_in, kernel, kernel]` in the order that kernels read.
pub(crate) fn laid(values: &[f32], [c_out, c_in, kernel]: [usize; 3]) -> Vec<f32> {
    let (taps, filled) = (kernel * kernel, c_in.next_multiple_of(UNIT));
    let mut laid = vec![0.0; c_out * taps * filled];
    let rows = values.par_chunks_exact(c_in * taps).zip(laid.par_chunks_exact_mut(taps * filled));
    rows.for_each(|(from, to)| {
        for (c, from) in from.chunks_exact(taps).enumerate() {
            for (tap, &value) in from.iter().enumerate() {
                to[tap * filled + c] = value;
            }
        }
    });
    laid
}

impl Conv {
    /// Parameters `[c_out, c_in, kernel, kernel]`; `None` on a device without kernels of ours.
    pub(crate) fn upload(values: &[f32], shape: [usize; 3], compute: Compute, device: &Device) -> Option<Self> {
        let (like, dtype) = (View::on(device)?, dtype_of(compute));
        let laid = laid(values, shape);
        let weight = like.upload(bytes_of(Values::F32(&laid), dtype), dtype, Self::rows_of(shape)).into_tensor();
        Self::of(weight, shape, compute)
    }

    /// Parameters `[c_out, c_in, kernel, kernel]` that are on a device, as [`laid`] lays them; `None` without kernels of ours.
    pub(crate) fn of(weight: Tensor<2>, [c_out, c_in, kernel]: [usize; 3], compute: Compute) -> Option<Self> {
        takes(&weight).then_some(Self { weight, compute, c_out, c_in, kernel })
    }

    /// The matrix that parameters are held as.
    pub(crate) fn rows_of([c_out, c_in, kernel]: [usize; 3]) -> [usize; 2] {
        [c_out, kernel * kernel * c_in.next_multiple_of(UNIT)]
    }

    /// `residual + conv(x) + bias`, with a bias for each channel or each of the batch, `[1 or b, c_out]`.
    pub(crate) fn convolve(
        &self,
        x: Tensor<4>,
        window: Window,
        bias: Option<Tensor<2>>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let ([b, c, ..], [oh, ow]) = (x.dims(), window.size);
        assert_eq!(c, self.c_in, "channels of a convolution's input");
        let biases = bias.as_ref().map_or(1, |bias| bias.dims()[0]);
        if biases > 1 {
            // One launch has one bias.
            let one = |i: usize| {
                let bias = bias.clone().map(|bias| bias.narrow(0, i, 1));
                let residual = residual.clone().map(|map| map.narrow(0, i, 1));
                self.convolve(x.clone().narrow(0, i, 1), window, bias, residual)
            };
            return Tensor::cat((0..b).map(one).collect(), 0);
        }
        let w = View::ours(&self.weight);
        let dtype = w.dtype();
        let (x, [_, h, wide, filled]) = by_pixels(&x, dtype);
        let residual = residual.map(|map| by_pixels_of(&map, dtype));
        let bias = bias.map(|bias| cast(View::ours(&bias), DType::F32).contiguous());
        // In f32, too.
        let is_picture = self.c_out < FEW;
        let out = x.empty([b, oh, ow, self.c_out], if is_picture { DType::F32 } else { dtype });
        let residual = residual.map(|residual| cast(residual, out.dtype()));
        let (m, k) = (b * oh * ow, self.kernel * self.kernel * filled);
        let is_plain = self.kernel == 1 && window.stride == 1;
        let flags = bits([bias.is_some(), false, residual.is_some()]);
        let args = Args::default().ints([m, self.c_out, k, filled, self.c_out, self.c_out, m, 0, flags, 0]);
        let args = match is_plain {
            true => args.ints([0; 8]),
            false => args.ints([h, wide, filled, oh, ow, self.kernel, window.stride, window.pad]),
        };
        let unused = out.stand_in();
        let part = |x: &Option<View>| x.as_ref().unwrap_or(&unused).clone();
        let buffers = [&x, &w, &part(&bias), &unused, &part(&residual), &out];
        product::launch((&w, self.compute), &out, [m, self.c_out], !is_plain, buffers, args);
        let map = as_map(out, [b, oh, ow, self.c_out]);
        if is_picture { row_major(map) } else { map }
    }
}

/// A map that lies by pixels, as `[b, c, h, w]`.
fn as_map(x: View, [b, h, w, c]: [usize; 4]) -> Tensor<4> {
    x.seen_as([b, c, h, w], [h * w * c, 1, w * c, c]).into_tensor()
}

/// Whether a map lies by pixels without gaps.
fn is_by_pixels(x: &View) -> bool {
    let ([b, c, h, w], strides) = (x.dims::<4>(), x.strides::<4>());
    let expected = [h * w * c, 1, w * c, c];
    (0..4).all(|i| [b, c, h, w][i] == 1 || strides[i] == expected[i]) && x.is_aligned()
}

/// A map by pixels in a number format, its channels filled up to a multiple of [`UNIT`]: `[b, h, w, c]`.
fn by_pixels(x: &Tensor<4>, dtype: DType) -> (View, [usize; 4]) {
    let [b, c, h, w] = x.dims();
    let filled = c.next_multiple_of(UNIT);
    let x = View::ours(x);
    if is_by_pixels(&x) && filled == c && x.dtype() == dtype {
        return (x.row_major([b, h, w, c]), [b, h, w, c]);
    }
    let (x, shape) = (x.contiguous(), [b, h, w, filled]);
    (transposed(x, [b, c, h * w], shape, dtype), shape)
}

/// The same without filling up.
fn by_pixels_of(x: &Tensor<4>, dtype: DType) -> View {
    let [b, c, h, w] = x.dims();
    let x = View::ours(x);
    if is_by_pixels(&x) {
        return cast(x.row_major([b, h, w, c]), dtype);
    }
    transposed(x.contiguous(), [b, c, h * w], [b, h, w, c], dtype)
}

/// The same map plane by plane, in f32.
pub(crate) fn row_major(x: Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let x = View::ours(&x);
    match is_by_pixels(&x) && c > 1 {
        true => transposed(x.row_major([b, h * w, c]), [b, h * w, c], [b, c, h, w], DType::F32).into_tensor(),
        false => cast(x.contiguous(), DType::F32).into_tensor(),
    }
}

/// A batch of matrices `[b, rows, columns]` with rows and columns exchanged, in another number format and under a shape whose last
/// dimension may be filled up with 0.
fn transposed(x: View, [b, rows, columns]: [usize; 3], shape: [usize; 4], dtype: DType) -> View {
    let to = shape.iter().product::<usize>() / (b * columns);
    let half = if x.dtype() == DType::F32 { dtype } else { x.dtype() };
    let mut defines = vec![element(half)];
    if x.dtype() == DType::F32 && half != DType::F32 {
        defines.push(("IN_F32", 1));
    }
    if dtype == DType::F32 && half != DType::F32 {
        defines.push(("OUT_F32", 1));
    }
    let out = x.empty(shape, dtype);
    let kernel = Kernel { text: &TRANSPOSE, entry: "transpose", defines, threads: 256 };
    // A tile has as many elements whatever its shape, which follows that of the matrix.
    let side = |n: usize| n.max(4).next_power_of_two();
    let [rows_of_tile, columns_of_tile] = match (to, columns) {
        (_, ..=32) => [TILE / side(columns), side(columns)],
        (..=32, _) => [side(to), TILE / side(to)],
        _ => [64, 64],
    };
    let tiles = to.div_ceil(rows_of_tile) * columns.div_ceil(columns_of_tile);
    kernel.launch([b * tiles, 1, 1], [&x, &out], Args::default().ints([b, rows, columns, columns, to, 0]));
    out
}

/// Elements of what a block transposes.
const TILE: usize = 4096;

/// Normalisation over groups of channels, with a scale and a shift for each channel.
pub(crate) fn group_norm(
    x: Tensor<4>,
    groups: usize,
    parameters: [&Tensor<1>; 2],
    eps: f64,
    f: Option<Activation>,
) -> Tensor<4> {
    let dtype = x.dtype();
    let [b, c, h, w] = x.dims();
    let x = by_pixels_of(&x, dtype);
    let pixels = h * w;
    let [weight, bias] = parameters.map(|x| cast(View::ours(x), DType::F32).contiguous());
    // A slab of channels is a block's, and so is a part of the pixels: as many as keep two blocks on each multiprocessor.
    let slabs = (c / 320).max(1);
    let (at_once, threads, defines) = match x.language() {
        Language::Cuda => (x.run(), 512, vec![]),
        Language::Wgsl => (wide(&[c]), 256, vec![(WIDE, wide(&[c]))]),
    };
    let most = (pixels * (c / slabs)).div_ceil(at_once * 1024).max(1);
    let splits = (1024 / threads * x.multiprocessors()).div_ceil(b * slabs).clamp(1, most);
    let partial = x.empty([b, groups, splits, 4], DType::F32);
    let out = x.empty([b, h, w, c], dtype);
    let args = || Args::default().ints([pixels, c, groups, splits, activation(f)]).float(eps);
    let defines = [vec![element(dtype)], defines].concat();
    let kernel = |entry| Kernel { text: &GROUP_NORM, entry, defines: defines.clone(), threads };
    kernel("group_stats").launch([splits, slabs, b], [&x, &partial], args());
    kernel("group_apply").launch([splits, slabs, b], [&x, &partial, &weight, &bias, &out], args());
    as_map(out, [b, h, w, c])
}

/// `x + y`.
pub(crate) fn add_maps(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    let ([b, c, h, w], dtype) = (x.dims(), x.dtype());
    let [x, y] = [x, y].map(|map| by_pixels_of(&map, dtype));
    as_map(rows::sum(x, y), [b, h, w, c])
}

/// The channels of `x`, then those of `y`.
pub(crate) fn channels_joined(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    let ([b, first, h, w], [_, second, ..], dtype) = (x.dims(), y.dims(), x.dtype());
    let [x, y] = [x, y].map(|map| by_pixels_of(&map, dtype));
    let out = x.empty([b, h, w, first + second], dtype);
    let pixels = b * h * w;
    let (kernel, grid) = each("JOIN", "join", &x, &[[pixels, first], [pixels, second]]);
    kernel.launch(grid, [&x, &y, &out], Args::default().ints([pixels, first, second, 0]));
    as_map(out, [b, h, w, first + second])
}

/// Height and width doubled by repeating pixels.
pub(crate) fn upsampled(x: Tensor<4>) -> Tensor<4> {
    let ([b, c, h, w], dtype) = (x.dims(), x.dtype());
    let x = by_pixels_of(&x, dtype);
    let out = x.empty([b, 2 * h, 2 * w, c], dtype);
    let (kernel, grid) = each("UPSAMPLE", "upsample", &x, &[[b * h * w, c]]);
    kernel.launch(grid, [&x, &out], Args::default().ints([b, h, w, c]));
    as_map(out, [b, 2 * h, 2 * w, c])
}

/// The pixels row by row, `[b, h · w, c]`.
pub(crate) fn tokens(x: Tensor<4>) -> Tensor<3> {
    let ([b, c, h, w], dtype) = (x.dims(), x.dtype());
    by_pixels_of(&x, dtype).row_major([b, h * w, c]).into_tensor()
}

/// The inverse of [`tokens`].
pub(crate) fn pixels(x: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [b, n, c] = x.dims();
    assert_eq!(n, h * w, "tokens for a map of {h} × {w}");
    as_map(View::ours(&x).contiguous(), [b, h, w, c])
}
