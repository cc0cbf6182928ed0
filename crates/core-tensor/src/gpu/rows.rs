//! What is done to rows, and to each number by itself.

use burn::tensor::DType;
use kernels::Activation;

use super::{
    View,
    kernel::{Args, Kernel, Text, activation, bits, element},
    language::Language,
    wgsl::{self, WIDE, wide},
};
use crate::Tensor;

static NORMS: Text =
    Text::of(include_str!("cuda/norms.cu"), include_str!("wgsl/norms.wgsl"), &["LANES", "HELD"]).folded();
static ROTATE: Text =
    Text::of(include_str!("cuda/rotate.cu"), include_str!("wgsl/rotate.wgsl"), &["LANES", "HELD", "AT_ONCE"]);
static ELEMENTWISE: Text =
    Text::of(include_str!("cuda/elementwise.cu"), include_str!("wgsl/elementwise.wgsl"), &[]).folded();

/// What a norm of rows does besides.
#[derive(Debug, Default)]
pub(crate) struct Norm<'a> {
    /// Root mean square alone: no mean is taken off.
    pub(crate) is_rms: bool,
    pub(crate) weight: Option<&'a Tensor<1>>,
    pub(crate) bias: Option<&'a Tensor<1>>,
    /// Shift and scale for each of the batch, `[b, 1, d]`.
    pub(crate) modulation: Option<[&'a Tensor<3>; 2]>,
    pub(crate) eps: f64,
}

/// `(1 + scale) · (norm(x) · weight + bias) + shift` over the last dimension.
pub(crate) fn norm<const D: usize>(x: Tensor<D>, norm: Norm) -> Tensor<D> {
    let shape = x.dims();
    let d = shape[D - 1];
    let (x, rows, apart) = View::ours(&x).rows(1);
    let parameter = |x: Option<&Tensor<1>>| x.map(|x| cast(View::ours(x), DType::F32).contiguous());
    let (weight, bias) = (parameter(norm.weight), parameter(norm.bias));
    // Both are chunks of one wider row, and are taken as they lie.
    let modulation = norm.modulation.map(|parts| parts.map(|x| cast(View::ours(x), DType::F32).rows(1)));
    let modulation = modulation.map(|parts| match parts {
        [(shift, n, apart), (scale, _, other)] if apart == other => (shift, scale, n, apart),
        [(shift, n, _), (scale, ..)] => (shift.contiguous(), scale.contiguous(), n, d),
    });
    let (n, mod_stride) = modulation.as_ref().map_or((1, 0), |&(_, _, n, apart)| (n, apart));
    let out = x.empty(shape, x.dtype());
    let flags = bits([norm.is_rms, weight.is_some(), bias.is_some(), modulation.is_some()]);
    let args = Args::default().ints([rows, d, apart, (rows / n).max(1), mod_stride, flags]).float(norm.eps);
    let unused = out.stand_in();
    let (weight, bias) = (weight.unwrap_or_else(|| unused.clone()), bias.unwrap_or_else(|| unused.clone()));
    let (shift, scale) =
        modulation.map_or_else(|| (unused.clone(), unused.clone()), |(shift, scale, ..)| (shift, scale));
    let (defines, threads, blocks) = match x.language() {
        Language::Cuda => match d.div_ceil(x.run()) {
            ..=128 => (vec![], 128, rows.div_ceil(4)),
            runs => (vec![], 32 * runs.div_ceil(128).min(16), rows),
        },
        Language::Wgsl => {
            let wide = wide(&[d, apart, mod_stride]);
            let runs = d / wide;
            let lanes = runs.min(32).max(runs.div_ceil(4)).next_power_of_two().min(256);
            let threads = lanes.max(128);
            let defines = vec![(WIDE, wide), ("LANES", lanes), ("HELD", runs.div_ceil(lanes).min(8))];
            (defines, threads, rows.div_ceil(threads / lanes))
        }
    };
    let defines = [vec![element(x.dtype())], defines].concat();
    let kernel = Kernel { text: &NORMS, entry: "row_norm", defines, threads };
    kernel.launch([blocks, 1, 1], [&x, &weight, &bias, &shift, &scale, &out], args);
    out.into_tensor()
}

/// Heads of one stream of tokens, `[b, heads, tokens, d]`, wherever they lie, and what is done to them.
#[derive(Debug)]
pub(crate) struct HeadsOfStream<'a> {
    pub(crate) x: Tensor<4>,
    /// A scale for each channel, `[d]`; heads are not normed where there is none.
    pub(crate) norm: Option<&'a Tensor<1>>,
    /// Whether they are rotated.
    pub(crate) is_rotated: bool,
}

/// How many heads of streams there are at most, and how many results.
const SETS: usize = 6;
const RESULTS: usize = 3;

/// For each result its streams: their tokens one behind the other, normed with what is added to a mean square, then rotated by tables of the
/// tokens' cosines and sines, `[1, 1, tokens, d / 2]`.
pub(crate) fn rotate<const N: usize, const R: usize>(
    results: [[HeadsOfStream; N]; R],
    eps: f64,
    tables: [&Tensor<4>; 2],
) -> [Tensor<4>; R] {
    const { assert!(N * R <= SETS && R <= RESULTS && N > 0 && R > 0, "as many as the kernel takes") };
    let [b, heads, _, d] = results[0][0].x.dims();
    let tokens: usize = results[0].iter().map(|stream| stream.x.dims()[2]).sum();
    let like = View::ours(&results[0][0].x);
    let dtype = like.dtype();
    let outs: [View; R] = std::array::from_fn(|_| like.empty([b, heads, tokens, d], dtype));
    let [cos, sin] = tables.map(|x| cast(View::ours(x), DType::F32).contiguous());
    let (mut xs, mut scales, mut longest, mut lengths) = (Vec::new(), Vec::new(), 0, vec![d]);
    let mut args = Args::default().ints([b, heads, d, tokens]).float(eps);
    for (which, streams) in results.into_iter().enumerate() {
        let mut before = 0;
        for HeadsOfStream { x, norm, is_rotated } in streams {
            let n = x.dims()[2];
            let x = cast(View::ours(&x), dtype);
            let x = if x.strides::<4>()[3] == 1 && x.is_aligned() { x } else { x.contiguous() };
            let [batch, head, token, _] = x.strides::<4>();
            args = args.ints([n, batch, token, head, before, bits([norm.is_some(), is_rotated]), which]);
            scales.push(
                norm.map_or_else(|| outs[0].stand_in(), |scale| cast(View::ours(scale), DType::F32).contiguous()),
            );
            lengths.extend([batch, token, head]);
            xs.push(x);
            before += n;
            longest = longest.max(n);
        }
    }
    for _ in xs.len()..SETS {
        args = args.ints([0; 7]);
    }
    let threads = 128;
    let (defines, lanes, at_once) = match like.language() {
        Language::Cuda => {
            let lanes = d.div_ceil(like.run()).min(32).next_power_of_two();
            (vec![], lanes, 1 << heads.min(threads / lanes).ilog2())
        }
        Language::Wgsl => {
            let wide = wide(&lengths);
            let units = d / wide.max(2);
            let lanes = units.div_ceil(4).next_power_of_two().min(64);
            let at_once = (threads / lanes).min(1 << heads.trailing_zeros());
            (
                vec![(WIDE, wide), ("LANES", lanes), ("HELD", units.div_ceil(lanes)), ("AT_ONCE", at_once)],
                lanes,
                at_once,
            )
        }
    };
    let blocks = (b * longest).div_ceil(threads / lanes / at_once);
    let defines = [vec![element(dtype)], defines].concat();
    let kernel = Kernel { text: &ROTATE, entry: "rotate", defines, threads };
    let unused = outs[0].stand_in();
    let of = |all: &[View], i: usize| all.get(i).unwrap_or(&unused).clone();
    let read = (0..SETS).map(|i| of(&xs, i)).chain((0..SETS).map(|i| of(&scales, i))).chain([cos, sin]);
    let all: Vec<_> = read.chain((0..RESULTS).map(|i| of(&outs, i))).collect();
    let buffers: [&View; 2 * SETS + 2 + RESULTS] = std::array::from_fn(|i| &all[i]);
    let grid = [blocks, N * R, 1];
    let grid = if like.language() == Language::Wgsl { wgsl::shared(grid) } else { grid };
    kernel.launch_to::<RESULTS, _>(grid, buffers, args);
    outs.map(View::into_tensor)
}

/// An activation function of each value.
pub(crate) fn activate<const D: usize>(f: Activation, x: Tensor<D>) -> Tensor<D> {
    let (shape, x) = (x.dims(), View::ours(&x).contiguous());
    let out = x.empty(shape, x.dtype());
    let args = count(x.len()).ints([activation(Some(f)), 0]);
    let (kernel, grid) = each("ACTIVATE", "activate", &x, &[[1, x.len()]]);
    kernel.launch(grid, [&x, &out], args);
    out.into_tensor()
}

/// `f(gate) · x`, both of one shape.
pub(crate) fn gated<const D: usize>(f: Activation, x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
    let (shape, x) = (x.dims(), View::ours(&x).contiguous());
    let gate = cast(View::ours(&gate), x.dtype()).contiguous();
    let out = x.empty(shape, x.dtype());
    let args = count(x.len()).ints([activation(Some(f)), 0]);
    let (kernel, grid) = each("GATED", "gated", &x, &[[1, x.len()]]);
    kernel.launch(grid, [&x, &gate, &out], args);
    out.into_tensor()
}

/// `x + y`, both of one shape, in the number format of `x`.
pub(crate) fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    let (shape, x) = (x.dims(), View::ours(&x).contiguous());
    let y = cast(View::ours(&y), x.dtype()).contiguous();
    sum(x, y).row_major(shape).into_tensor()
}

/// The sum of what lies in two buffers.
pub(super) fn sum(x: View, y: View) -> View {
    let out = x.empty([x.len()], x.dtype());
    let (kernel, grid) = each("ADD", "add", &x, &[[1, x.len()]]);
    kernel.launch(grid, [&x, &y, &out], count(x.len()));
    out
}

/// [`cast`] of a tensor; `None` where there is no kernel for it.
pub(crate) fn converted<const D: usize>(x: &Tensor<D>, dtype: DType) -> Option<Tensor<D>> {
    let is_ours = [DType::F32, DType::BF16, DType::F16].contains(&dtype);
    is_ours.then(|| Some(cast(View::of(x)?, dtype).into_tensor())).flatten()
}

/// The same numbers in a number format, of whose largest those become one that are beyond it; row-major where they had another.
pub(super) fn cast(x: View, dtype: DType) -> View {
    if x.dtype() == dtype {
        return x;
    }
    if x.dtype() != DType::F32 && dtype != DType::F32 {
        return cast(cast(x, DType::F32), dtype);
    }
    let x = x.contiguous();
    let out = x.like(dtype);
    let is_back = dtype == DType::F32;
    let (define, half) = if is_back { ("TO_F32", &x) } else { ("FROM_F32", &out) };
    let (mut kernel, grid) = each("CAST", "cast", half, &[[1, x.len()]]);
    match x.language() {
        Language::Cuda => kernel.defines.push((define, 1)),
        Language::Wgsl => kernel.entry = if is_back { "cast_back" } else { "cast_down" },
    }
    kernel.launch(grid, [&x, &out], count(x.len()));
    out
}

/// A kernel of the text of those that take each number by itself, and its grid for runs of numbers in the format of a view: how many there are of
/// each length.
pub(super) fn each(define: &'static str, entry: &'static str, of: &View, runs: &[[usize; 2]]) -> (Kernel, [usize; 3]) {
    let (defines, at_once) = match of.language() {
        Language::Cuda => (vec![(define, 1)], of.run()),
        Language::Wgsl => {
            let at_once = wide(&runs.iter().map(|[_, length]| *length).collect::<Vec<_>>());
            (vec![(WIDE, at_once)], at_once)
        }
    };
    let units: usize = runs.iter().map(|[count, length]| count * length.div_ceil(at_once)).sum();
    let defines = [vec![element(of.dtype())], defines].concat();
    (Kernel { text: &ELEMENTWISE, entry, defines, threads: 256 }, [units.div_ceil(UNITS), 1, 1])
}

/// What a block of those reads, in what is read at once.
const UNITS: usize = 1024;

/// A number of elements, in two parts.
fn count(len: usize) -> Args {
    Args::default().ints([len & 0xffff_ffff, len >> 32])
}
