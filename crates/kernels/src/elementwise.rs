//! Operations on each value alone.

use std::{f32::consts::LOG2_E, mem::MaybeUninit};

use rayon::prelude::*;

use crate::{
    exp::{exp, sigmoid2},
    isa::Isa,
    output::{Out, filled},
    simd::{Body, Simd, vectorize},
};

/// Values that one thread takes at a time: 64 KiB, small enough to share out evenly.
const CHUNK: usize = 16 * 1024;

/// Results larger than this are written past the caches: they would not be there any more when they are read.
pub(crate) const STREAMED: usize = 4 * 1024 * 1024;

/// A function between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`
    GeluTanh,
    /// `0.5 · x · (1 + erf(x / √2))`
    GeluErf,
    /// `x · sigmoid(1.702 · x)`
    QuickGelu,
    /// `x · sigmoid(x)`
    Silu,
}

impl Activation {
    /// The function of every lane. NaN stays NaN; far below zero the result is 0.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            // 0.5 · (1 + tanh(y)) = sigmoid(2y)
            Activation::GeluTanh => {
                const SCALE: f32 = 1.595_769 * LOG2_E; // 2 · √(2/π)
                let factor = s.fma(s.mul(x, x), s.splat(0.044_715 * SCALE), s.splat(SCALE));
                s.mul(x, sigmoid2(s, s.mul(x, factor)))
            }
            Activation::GeluErf => {
                let half = s.mul(x, s.splat(0.5));
                s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
            }
            Activation::QuickGelu => s.mul(x, sigmoid2(s, s.mul(x, s.splat(1.702 * LOG2_E)))),
            Activation::Silu => s.mul(x, sigmoid2(s, s.mul(x, s.splat(LOG2_E)))),
        }
    }
}

/// The error function, within 1.5e-7 of it: Abramowitz and Stegun (1964), 7.1.26.
#[inline(always)]
fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let one = s.splat(1.0);
    let magnitude = s.copysign(x, one);
    let t = s.recip(s.fma(magnitude, s.splat(P), one));
    let mut polynomial = s.splat(A[0]);
    for &a in &A[1..] {
        polynomial = s.fma(polynomial, t, s.splat(a));
    }
    let tail = s.mul(s.mul(polynomial, t), exp(s, s.mul(s.sub(s.splat(0.0), magnitude), magnitude)));
    s.copysign(s.sub(one, tail), x)
}

/// `activation(x)` of every value.
///
/// # Panics
/// If `out` is not as long as `x`.
pub fn activate<'o>(isa: Isa, activation: Activation, x: &[f32], out: Out<'o>) -> &'o mut [f32] {
    assert_eq!(x.len(), out.len(), "as many results as values");
    let is_streamed = out.len() >= STREAMED;
    (out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)))
        .for_each(|(out, x)| vectorize(isa, Map { f: Apply(activation), inputs: [x], out, is_streamed }));
    // SAFETY: `Map` fills its chunk, and the chunks are all of it.
    unsafe { filled(out) }
}

/// `activation(x)` in the place of every value.
pub fn activate_in_place(isa: Isa, activation: Activation, x: &mut [f32]) {
    x.par_chunks_mut(CHUNK).for_each(|x| vectorize(isa, InPlace { f: Apply(activation), x }));
}

/// `a + b`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn add<'o>(isa: Isa, a: &[f32], b: &[f32], out: Out<'o>) -> &'o mut [f32] {
    zip(isa, Sum, a, b, out)
}

/// `activation(gate) · x`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn gated<'o>(isa: Isa, activation: Activation, x: &[f32], gate: &[f32], out: Out<'o>) -> &'o mut [f32] {
    zip(isa, Gate(activation), x, gate, out)
}

/// Whether every value is a number: neither NaN nor infinite.
pub fn is_finite(isa: Isa, x: &[f32]) -> bool {
    x.par_chunks(CHUNK).all(|x| vectorize(isa, Finite { x }))
}

fn zip<'o>(isa: Isa, f: impl Function<2>, a: &[f32], b: &[f32], out: Out<'o>) -> &'o mut [f32] {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "{} and {} values for {} results",
        a.len(),
        b.len(),
        out.len()
    );
    let is_streamed = out.len() >= STREAMED;
    (out.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK))))
        .for_each(|(out, (a, b))| vectorize(isa, Map { f, inputs: [a, b], out, is_streamed }));
    // SAFETY: as in `activate`.
    unsafe { filled(out) }
}

/// Doubles height and width of planes `[…, h, w]` by repeating values, to `[…, 2h, 2w]`.
///
/// # Panics
/// If `out` is not four times as long as `x`, or `x` holds part of a row.
pub fn upsample_nearest_2x<'o>(x: &[f32], w: usize, out: Out<'o>) -> &'o mut [f32] {
    assert!(Some(out.len()) == x.len().checked_mul(4) && (x.is_empty() || x.len().is_multiple_of(w)), "rows of {w}");
    if x.is_empty() {
        return &mut [];
    }
    (out.par_chunks_mut(4 * w).zip(x.par_chunks(w))).with_min_len(16).for_each(|(out, x)| {
        let (first, second) = out.split_at_mut(2 * w);
        for (two, &x) in first.chunks_exact_mut(2).zip(x) {
            two.fill(MaybeUninit::new(x));
        }
        second.copy_from_slice(first);
    });
    // SAFETY: two rows of twice the width were written for each row, and `out` is four times as long.
    unsafe { filled(out) }
}

/// What becomes of `N` values.
trait Function<const N: usize>: Copy + Send + Sync {
    fn of<S: Simd>(self, s: S, x: [S::V; N]) -> S::V;
}

#[derive(Clone, Copy)]
struct Apply(Activation);

impl Function<1> for Apply {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, [x]: [S::V; 1]) -> S::V {
        self.0.apply(s, x)
    }
}

#[derive(Clone, Copy)]
struct Sum;

impl Function<2> for Sum {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, [a, b]: [S::V; 2]) -> S::V {
        s.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Gate(Activation);

impl Function<2> for Gate {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, [x, gate]: [S::V; 2]) -> S::V {
        s.mul(self.0.apply(s, gate), x)
    }
}

struct Map<'a, F, const N: usize> {
    f: F,
    inputs: [&'a [f32]; N],
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl<F: Function<N>, const N: usize> Body for Map<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { f, inputs, out, is_streamed } = self;
        assert!(inputs.iter().all(|input| input.len() == out.len()));
        let aligned = out.as_ptr().addr().is_multiple_of(size_of::<f32>() * S::LANES);
        let whole = out.len() / S::LANES * S::LANES;
        let to = out.as_mut_ptr().cast::<f32>();
        let mut x = [s.splat(0.0); N];
        for at in (0..whole).step_by(S::LANES) {
            for n in 0..N {
                // SAFETY: the vector from `at` on lies in `out`, which is as long as every input.
                x[n] = unsafe { s.load_ptr(inputs[n].as_ptr().add(at)) };
            }
            let y = f.of(s, x);
            // SAFETY: the vector from `at` on lies in `out`, and starts at a multiple of its size where that is asked for.
            unsafe { if is_streamed && aligned { s.stream_ptr(to.add(at), y) } else { s.store_ptr(to.add(at), y) } }
        }
        if is_streamed {
            s.fence();
        }
        if whole < out.len() {
            for n in 0..N {
                x[n] = s.load_part(&inputs[n][whole..], 0.0);
            }
            s.write_part(&mut out[whole..], f.of(s, x));
        }
    }
}

struct InPlace<'a, F> {
    f: F,
    x: &'a mut [f32],
}

impl<F: Function<1>> Body for InPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { f, x } = self;
        let whole = x.len() / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let y = f.of(s, [s.load(&x[at..])]);
            s.store(&mut x[at..], y);
        }
        let rest = &mut x[whole..];
        if !rest.is_empty() {
            let y = f.of(s, [s.load_part(rest, 0.0)]);
            s.store_part(rest, y);
        }
    }
}

struct Finite<'a> {
    x: &'a [f32],
}

impl Body for Finite<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        // Zero times a number is zero; times infinity or NaN it is NaN, which stays in the sum.
        let zero = s.splat(0.0);
        let mut sums = [zero; 4];
        let whole = self.x.len() / (4 * S::LANES) * (4 * S::LANES);
        for at in (0..whole).step_by(4 * S::LANES) {
            for i in 0..4 {
                sums[i] = s.fma(s.load(&self.x[at + i * S::LANES..]), zero, sums[i]);
            }
        }
        let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
        sum == 0.0 && self.x[whole..].iter().all(|v| v.is_finite())
    }
}
