//! Normalisation of rows.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::{
    elementwise::STREAMED,
    isa::Isa,
    output::{Out, filled},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Values that one thread takes at a time, in whole rows.
const CHUNK: usize = 16 * 1024;

/// Values whose moments are taken together: half of the first cache.
const PART: usize = 4 * 1024;

/// What becomes of a row after it is normalised.
#[derive(Clone, Copy, Debug)]
pub enum Affine<'a> {
    /// Nothing.
    None,
    /// `x · weight + bias`, one of each for a column; no bias where there is none.
    Columns {
        /// `[d]`
        weight: &'a [f32],
        /// `[d]`
        bias: Option<&'a [f32]>,
    },
    /// `x · (1 + scale) + shift`, one of each for a column of `rows` consecutive rows (adaptive normalisation).
    Modulated {
        /// `[batch, d]`
        scale: &'a [f32],
        /// `[batch, d]`
        shift: &'a [f32],
        /// Rows of a batch entry.
        rows: usize,
    },
}

impl Affine<'_> {
    /// What becomes of the columns from `at` on, at most a vector's worth; scale and shift are those of the row.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, y: S::V, at: usize, n: usize) -> S::V {
        match self {
            Affine::None => y,
            Affine::Columns { weight, bias: None } => s.mul(y, read(s, weight, at, n)),
            Affine::Columns { weight, bias: Some(bias) } => s.fma(y, read(s, weight, at, n), read(s, bias, at, n)),
            Affine::Modulated { scale, shift, .. } => {
                s.fma(y, s.add(s.splat(1.0), read(s, scale, at, n)), read(s, shift, at, n))
            }
        }
    }
}

/// `(x - mean) / √(variance + eps)` of every row of `d` values, then `affine`.
///
/// # Panics
/// If `x` is not made of rows of `d`, or `out` or `affine` does not fit.
pub fn layer_norm<'o>(isa: Isa, x: &[f32], d: usize, eps: f32, affine: Affine, out: Out<'o>) -> &'o mut [f32] {
    let rows = check(x, d, out);
    match affine {
        Affine::None => {}
        Affine::Columns { weight, bias } => {
            assert!(
                weight.len() == d && bias.is_none_or(|bias| bias.len() == d),
                "a weight and a bias for each of {d}"
            );
        }
        Affine::Modulated { scale, shift, rows: n } => assert!(
            rows == 0 || n > 0 && rows.is_multiple_of(n) && scale.len() == rows / n * d && shift.len() == scale.len(),
            "scales and shifts for {rows} rows of {d}, {n} to each"
        ),
    }
    let is_streamed = out.len() >= STREAMED;
    // SAFETY: `LayerNorm` fills a row for each of its own.
    unsafe {
        each_row(x, d, out, |first, x, out| vectorize(isa, LayerNorm { x, d, eps, affine, first, out, is_streamed }))
    }
}

/// `x / √(mean(x²) + eps) · scale` of every row of `d` values.
///
/// # Panics
/// If `x` is not made of rows of `d`, or `out` or `scale` does not fit.
pub fn rms_norm<'o>(isa: Isa, x: &[f32], d: usize, scale: &[f32], eps: f32, out: Out<'o>) -> &'o mut [f32] {
    check(x, d, out);
    assert_eq!(scale.len(), d, "a scale for each column");
    let is_streamed = out.len() >= STREAMED;
    // SAFETY: `RmsNorm` fills a row for each of its own.
    unsafe { each_row(x, d, out, |_, x, out| vectorize(isa, RmsNorm { x, scale, eps, out, is_streamed })) }
}

fn check(x: &[f32], d: usize, out: &[MaybeUninit<f32>]) -> usize {
    assert!(
        x.len() == out.len() && (x.is_empty() || d > 0 && x.len().is_multiple_of(d)),
        "rows of {d}: {} values",
        x.len()
    );
    if x.is_empty() { 0 } else { x.len() / d }
}

/// Gives some whole rows and their places to `f`, which fills these.
///
/// # Safety
/// It does, and there are as many places as values.
unsafe fn each_row<'o>(x: &[f32], d: usize, out: Out<'o>, f: impl Fn(usize, &[f32], Out) + Sync) -> &'o mut [f32] {
    if !x.is_empty() {
        let rows = (CHUNK / d).max(1);
        (out.par_chunks_mut(rows * d).zip(x.par_chunks(rows * d)).enumerate())
            .for_each(|(i, (out, x))| f(i * rows, x, out));
    }
    // SAFETY: the caller's promise.
    unsafe { filled(out) }
}

/// A layer norm with a weight and a bias for each column, of rows that are read by something else.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm<'a> {
    /// `[d]`
    pub weight: &'a [f32],
    /// `[d]`
    pub bias: &'a [f32],
    /// What is added to a variance.
    pub eps: f32,
}

impl RowNorm<'_> {
    /// One row, to another place.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, x: &[f32], to: &mut [f32]) {
        let Self { weight, bias, eps } = self;
        let affine = Affine::Columns { weight, bias: Some(bias) };
        // SAFETY: initialised places may be written as well as others.
        let out = unsafe { std::mem::transmute::<&mut [f32], &mut [MaybeUninit<f32>]>(to) };
        LayerNorm { x, d: x.len(), eps, affine, first: 0, out, is_streamed: false }.run(s);
    }
}

struct LayerNorm<'a> {
    x: &'a [f32],
    d: usize,
    eps: f32,
    affine: Affine<'a>,
    first: usize,
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl Body for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x: all, d, eps, affine, first, out, is_streamed } = self;
        for r in 0..all.len() / d {
            let x = &all[r * d..][..d];
            // Squares around a number near the mean lose nothing; the first values may be far from it, and then it is taken itself.
            let near = x.len().min(4 * S::LANES);
            let mut centre = total(s, &x[..near]) / near as f32;
            let (mut rest, mut squares) = moments(s, x, s.splat(centre));
            if rest * rest > squares * (d / 2) as f32 {
                centre = total(s, x) / d as f32;
                (rest, squares) = moments(s, x, s.splat(centre));
            }
            let mean = s.splat(centre);
            let rest = rest / d as f32;
            let variance = (squares / d as f32 - rest * rest).max(0.0);
            let rest = s.splat(rest);
            let factor = s.splat(1.0 / (variance + eps).sqrt());
            let mut out = Row::of(s, &mut out[r * d..][..d], is_streamed);
            let affine = match affine {
                Affine::Modulated { scale, shift, rows } => {
                    let batch = (first + r) / rows * d;
                    Affine::Modulated { scale: &scale[batch..][..d], shift: &shift[batch..][..d], rows }
                }
                other => other,
            };
            let whole = d / S::LANES * S::LANES;
            for at in (0..whole).step_by(S::LANES) {
                s.prefetch(x.as_ptr().wrapping_add(d + at).cast());
                let y = s.mul(s.sub(s.sub(read(s, x, at, S::LANES), mean), rest), factor);
                out.write(s, at, S::LANES, affine.apply(s, y, at, S::LANES));
            }
            if whole < d {
                let y = s.mul(s.sub(s.sub(read(s, x, whole, d - whole), mean), rest), factor);
                out.write(s, whole, d - whole, affine.apply(s, y, whole, d - whole));
            }
        }
        if is_streamed {
            s.fence();
        }
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    eps: f32,
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl Body for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, scale, eps, out, is_streamed } = self;
        let d = scale.len();
        for r in 0..x.len() / d {
            let x = &x[r * d..][..d];
            let mean_square = moments(s, x, s.splat(0.0)).1 / d as f32;
            let factor = s.splat(1.0 / (mean_square + eps).sqrt());
            let mut out = Row::of(s, &mut out[r * d..][..d], is_streamed);
            let whole = d / S::LANES * S::LANES;
            for at in (0..whole).step_by(S::LANES) {
                s.prefetch(x.as_ptr().wrapping_add(d + at).cast());
                let y = s.mul(read(s, x, at, S::LANES), factor);
                out.write(s, at, S::LANES, s.mul(y, read(s, scale, at, S::LANES)));
            }
            if whole < d {
                let y = s.mul(read(s, x, whole, d - whole), factor);
                out.write(s, whole, d - whole, s.mul(y, read(s, scale, whole, d - whole)));
            }
        }
        s.fence();
    }
}

/// Group normalisation of `[b, channels, pixels]`, with a weight and a bias for each channel, and SiLU where `is_silu`.
///
/// # Panics
/// If the lengths don't fit the shape, the channels the groups, or the shape has more values than can be counted.
#[allow(clippy::too_many_arguments, reason = "a layer's parameters")]
pub fn group_norm<'o>(
    isa: Isa,
    x: &[f32],
    [b, channels, pixels]: [usize; 3],
    groups: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    activation: Option<crate::Activation>,
    out: Out<'o>,
) -> &'o mut [f32] {
    let size = product("values", [b, channels, pixels]);
    assert!(x.len() == size && x.len() == out.len(), "{} values for [{b}, {channels}, {pixels}]", x.len());
    assert!(groups > 0 && channels.is_multiple_of(groups), "{channels} channels in {groups} groups");
    assert!(weight.len() == channels && bias.len() == channels, "a weight and a bias for each of {channels} channels");
    if x.is_empty() {
        return &mut [];
    }
    let per_group = channels / groups;
    let is_streamed = out.len() >= STREAMED;
    (out.par_chunks_mut(per_group * pixels).zip(x.par_chunks(per_group * pixels)).enumerate()).for_each(
        |(i, (out, x))| {
            let channels = i % groups * per_group..(i % groups + 1) * per_group;
            let (weight, bias) = (&weight[channels.clone()], &bias[channels]);
            vectorize(isa, GroupNorm { x, pixels, weight, bias, eps, activation, out, is_streamed });
        },
    );
    // SAFETY: `GroupNorm` fills its group's channels, and the groups are all of them.
    unsafe { filled(out) }
}

struct GroupNorm<'a> {
    x: &'a [f32],
    pixels: usize,
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    activation: Option<crate::Activation>,
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl Body for GroupNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, pixels, weight, bias, eps, activation, out, is_streamed } = self;
        // A part's moments while it is in the first caches, added up in f64: a group can have millions of values.
        let (mut n, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for part in x.chunks(PART) {
            let count = part.len() as f64;
            let centre = total(s, part) / part.len() as f32;
            let (rest, part_squares) = moments(s, part, s.splat(centre));
            let rest = f64::from(rest) / count;
            let (part_mean, part_squares) = (f64::from(centre) + rest, f64::from(part_squares) - count * rest * rest);
            // Chan, Golub and LeVeque 1979: the moments of two parts together.
            let apart = part_mean - mean;
            squares += part_squares + apart * apart * n * count / (n + count);
            n += count;
            mean += apart * count / n;
        }
        let variance = (squares / n).max(0.0) as f32;
        let factor = 1.0 / (variance + eps).sqrt();
        let rest = s.splat((mean - f64::from(mean as f32)) as f32);
        let mean = s.splat(mean as f32);
        // The last channels first: they are still in a cache.
        for (c, (&weight, &bias)) in weight.iter().zip(bias).enumerate().rev() {
            let (x, mut out) = (&x[c * pixels..][..pixels], Row::of(s, &mut out[c * pixels..][..pixels], is_streamed));
            let (weight, bias) = (s.splat(weight * factor), s.splat(bias));
            for at in (0..pixels).step_by(S::LANES) {
                let n = S::LANES.min(pixels - at);
                let y = s.fma(s.sub(s.sub(read(s, x, at, n), mean), rest), weight, bias);
                let y = match activation {
                    Some(activation) => activation.apply(s, y),
                    None => y,
                };
                out.write(s, at, n, y);
            }
        }
        s.fence();
    }
}

/// The sum of all values, in four interleaved parts.
#[inline(always)]
fn total<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut rest = x;
    while rest.len() >= 4 * S::LANES {
        for i in 0..4 {
            sums[i] = s.add(sums[i], s.load(&rest[i * S::LANES..]));
        }
        rest = &rest[4 * S::LANES..];
    }
    for at in (0..rest.len()).step_by(S::LANES) {
        sums[0] = s.add(sums[0], read(s, rest, at, S::LANES.min(rest.len() - at)));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// The sums of `x - centre` and of its square.
#[inline(always)]
fn moments<S: Simd>(s: S, x: &[f32], centre: S::V) -> (f32, f32) {
    let mut sums = [s.splat(0.0); 4];
    let mut squares = sums;
    let mut rest = x;
    while rest.len() >= 4 * S::LANES {
        for i in 0..4 {
            let v = s.sub(s.load(&rest[i * S::LANES..]), centre);
            sums[i] = s.add(sums[i], v);
            squares[i] = s.fma(v, v, squares[i]);
        }
        rest = &rest[4 * S::LANES..];
    }
    let sum = |four: [S::V; 4]| s.sum(s.add(s.add(four[0], four[1]), s.add(four[2], four[3])));
    let (mut total, mut total_square) = (sum(sums), sum(squares));
    let mut lanes = [0.0; crate::simd::MAX_LANES];
    s.store(&mut lanes, centre);
    for &x in rest {
        let v = x - lanes[0];
        total += v;
        total_square += v * v;
    }
    (total, total_square)
}

/// `n` values from `at` on, at most a vector's worth; the other lanes are 0.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::V {
    if n == S::LANES { s.load(&x[at..]) } else { s.load_part(&x[at..at + n], 0.0) }
}

/// Where a row's results go.
struct Row<'a> {
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn of<S: Simd>(_: S, out: &'a mut [MaybeUninit<f32>], is_streamed: bool) -> Self {
        let is_aligned = out.as_ptr().addr().is_multiple_of(size_of::<f32>() * S::LANES);
        Self { out, is_streamed: is_streamed && is_aligned }
    }

    /// The first `n` of a vector's values, from `at` on, which is a multiple of [`Simd::LANES`].
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, at: usize, n: usize, v: S::V) {
        let out = &mut self.out[at..at + n];
        if n == S::LANES {
            // SAFETY: a vector's worth of places, as just counted, which starts at a multiple of its size if the row does.
            unsafe {
                let to = out.as_mut_ptr().cast();
                if self.is_streamed && at.is_multiple_of(S::LANES) { s.stream_ptr(to, v) } else { s.store_ptr(to, v) }
            }
        } else {
            s.write_part(out, v);
        }
    }
}
