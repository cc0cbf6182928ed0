//! Heads of attention, and the rotation of their channels by position.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::{
    epilogue::Rows,
    isa::Isa,
    output::{Out, filled},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// A view `[b, heads, tokens, d]` with any strides but the last, which is 1: a head of queries straight out of `[b, tokens, 3,
/// heads, d]`, for example.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    data: &'a [f32],
    shape: [usize; 4],
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// Strides in values, for batch, heads and tokens; `None` where the view leaves `data`.
    pub fn new(data: &'a [f32], shape: [usize; 4], strides: [usize; 3]) -> Option<Self> {
        let view = Self { data, shape, strides };
        if shape.contains(&0) {
            return Some(view);
        }
        let last = (shape.iter().zip(strides)).try_fold(shape[3], |end, (&n, stride)| {
            (n - 1).checked_mul(stride).and_then(|last| end.checked_add(last))
        })?;
        (last <= data.len()).then_some(view)
    }

    /// `[b, heads, tokens, d]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// All tokens of one head.
    pub(crate) fn rows(&self, b: usize, head: usize) -> Rows<'a> {
        let [_, _, rows, d_in] = self.shape;
        let x = if self.shape.contains(&0) { &[] } else { &self.data[b * self.strides[0] + head * self.strides[1]..] };
        Rows { x, stride: self.strides[2], rows, d_in }
    }

    /// One token's channels in one head.
    ///
    /// # Panics
    /// If there is no such token, head or batch entry.
    #[inline(always)]
    pub fn row(&self, b: usize, head: usize, token: usize) -> &'a [f32] {
        let [batch, heads, tokens, d] = self.shape;
        assert!(b < batch && head < heads && token < tokens, "no token {token} of head {head} in entry {b}");
        if d == 0 {
            return &[];
        }
        &self.data[b * self.strides[0] + head * self.strides[1] + token * self.strides[2]..][..d]
    }
}

/// Rotates each pair of neighbouring channels, of every row after its RMS norm where there is one. `cos` and `sin` are
/// `[tokens, d / 2]`; `norm` is a scale for each channel and the norm's epsilon. The result is `[b, heads, tokens, d]`.
///
/// # Panics
/// If `d` is odd, a length does not fit, or a shape has more values than can be counted.
pub fn rope<'o>(
    isa: Isa,
    x: Heads,
    norm: Option<(&[f32], f32)>,
    cos: &[f32],
    sin: &[f32],
    out: Out<'o>,
) -> &'o mut [f32] {
    let [b, heads, tokens, d] = x.shape();
    assert_eq!(out.len(), product("results", [b, heads, tokens, d]), "results for {:?}", x.shape());
    let angles = product("angles", [tokens, d / 2]);
    assert!(d.is_multiple_of(2) && cos.len() == angles && sin.len() == angles, "angles for {tokens} of {d}");
    assert!(norm.is_none_or(|(scale, _)| scale.len() == d), "a scale for each of {d} channels");
    if out.is_empty() {
        return &mut [];
    }
    (out.par_chunks_mut(product("channels of a head", [d, tokens])).enumerate())
        .for_each(|(i, out)| vectorize(isa, Rotate { x, b: i / heads, head: i % heads, norm, cos, sin, out }));
    // SAFETY: `Rotate` fills a head's tokens, and the heads are all of it.
    unsafe { filled(out) }
}

struct Rotate<'a> {
    x: Heads<'a>,
    b: usize,
    head: usize,
    norm: Option<(&'a [f32], f32)>,
    cos: &'a [f32],
    sin: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Body for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, b, head, norm, cos, sin, out } = self;
        let [_, _, tokens, d] = x.shape();
        let half = d / 2;
        let mut normal = vec![0.0f32; d];
        for token in 0..tokens {
            let row = x.row(b, head, token);
            match norm {
                None => normal.copy_from_slice(row),
                Some((scale, eps)) => {
                    let mut squares = s.splat(0.0);
                    for at in (0..d).step_by(S::LANES) {
                        let v = read(s, row, at);
                        squares = s.fma(v, v, squares);
                    }
                    let factor = s.splat(1.0 / (s.sum(squares) / d as f32 + eps).sqrt());
                    for at in (0..d).step_by(S::LANES) {
                        let v = s.mul(s.mul(read(s, row, at), factor), read(s, scale, at));
                        let to = &mut normal[at..];
                        let n = S::LANES.min(to.len());
                        if n == S::LANES { s.store(to, v) } else { s.store_part(to, v) }
                    }
                }
            }
            let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
            let out = &mut out[token * d..][..d];
            for i in 0..half {
                let (even, odd) = (normal[2 * i], normal[2 * i + 1]);
                out[2 * i].write(even * cos[i] - odd * sin[i]);
                out[2 * i + 1].write(even * sin[i] + odd * cos[i]);
            }
        }
    }
}

#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], at: usize) -> S::V {
    let n = S::LANES.min(x.len() - at);
    if n == S::LANES { s.load(&x[at..]) } else { s.load_part(&x[at..at + n], 0.0) }
}
