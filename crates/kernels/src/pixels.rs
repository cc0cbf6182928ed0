//! Operations on maps in which the channels of a pixel lie side by side, `[b, pixels, channels]`.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::{
    aligned::Scratch,
    elementwise::{Activation, STREAMED},
    isa::Isa,
    output::{Out, filled},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Values whose moments are taken together. The number of parts depends on the shape alone.
const PART: usize = 128 * 1024;

/// Values that one thread takes at a time, in whole pixels.
const CHUNK: usize = 16 * 1024;

/// Pixels that stay in the first cache while the channels pass by.
const ROWS: usize = 16;

/// A group norm once its means are known: what a value of a channel is multiplied with, and what is added then, both `[b, channels]`.
#[derive(Clone, Debug)]
pub struct Affines {
    /// `weight / √(variance + eps)`
    pub scale: Vec<f32>,
    /// `bias - mean · scale`
    pub shift: Vec<f32>,
}

impl Affines {
    /// Those of the group normalisation of `[b, pixels, channels]` with a weight and a bias for each channel.
    ///
    /// # Panics
    /// If the lengths don't fit the shape, the channels the groups, or the shape has more values than can be counted.
    pub fn of_groups(
        isa: Isa,
        x: &[f32],
        [b, pixels, channels]: [usize; 3],
        groups: usize,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
    ) -> Self {
        assert_eq!(x.len(), product("values", [b, pixels, channels]), "values for [{b}, {pixels}, {channels}]");
        assert!(groups > 0 && channels.is_multiple_of(groups), "{channels} channels in {groups} groups");
        assert!(
            weight.len() == channels && bias.len() == channels,
            "a weight and a bias for each of {channels} channels"
        );
        let (mut scale, mut shift) = (vec![0.0; b * channels], vec![0.0; b * channels]);
        if x.is_empty() {
            return Self { scale, shift };
        }
        let rows = (PART / channels).max(1);
        let per_group = channels / groups;
        let parts = pixels.div_ceil(rows);
        for (entry, x) in x.chunks_exact(pixels * channels).enumerate() {
            // Of each part, the mean and the sum of squares around it of each channel.
            let mut moments = vec![[0.0f64; 2]; product("moments", [parts, channels])];
            (moments.par_chunks_mut(channels).zip(x.par_chunks(rows * channels)))
                .for_each(|(to, x)| vectorize(isa, Moments { x, channels, to }));
            for group in 0..groups {
                let (mut n, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
                for (part, moments) in moments.chunks_exact(channels).enumerate() {
                    let count = rows.min(pixels - part * rows) as f64;
                    for &[part_mean, part_squares] in &moments[group * per_group..][..per_group] {
                        // Chan, Golub and LeVeque 1979: the moments of two parts together.
                        let apart = part_mean - mean;
                        squares += part_squares + apart * apart * n * count / (n + count);
                        n += count;
                        mean += apart * count / n;
                    }
                }
                let factor = 1.0 / ((squares / n).max(0.0) + f64::from(eps)).sqrt();
                for channel in group * per_group..(group + 1) * per_group {
                    let by = f64::from(weight[channel]) * factor;
                    scale[entry * channels + channel] = by as f32;
                    shift[entry * channels + channel] = (f64::from(bias[channel]) - mean * by) as f32;
                }
            }
        }
        Self { scale, shift }
    }

    /// `activation(x · scale + shift)` of `[b, pixels, channels]`.
    ///
    /// # Panics
    /// If `x` or `out` does not fit the shape, or these are not its channels.
    pub fn apply<'o>(
        &self,
        isa: Isa,
        x: &[f32],
        [b, pixels, channels]: [usize; 3],
        activation: Option<Activation>,
        out: Out<'o>,
    ) -> &'o mut [f32] {
        let size = product("values", [b, pixels, channels]);
        assert!(x.len() == size && x.len() == out.len(), "{} values for [{b}, {pixels}, {channels}]", x.len());
        assert_eq!(self.scale.len(), b * channels, "scales for [{b}, {pixels}, {channels}]");
        if x.is_empty() {
            return &mut [];
        }
        let is_streamed = out.len() >= STREAMED;
        let chunk = (CHUNK / channels).max(1) * channels;
        let entries = out.chunks_exact_mut(pixels * channels).zip(x.chunks_exact(pixels * channels));
        entries.enumerate().for_each(|(entry, (out, x))| {
            let [scale, shift] = [&self.scale, &self.shift].map(|all| &all[entry * channels..][..channels]);
            (out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)))
                .for_each(|(out, x)| vectorize(isa, Apply { x, scale, shift, activation, out, is_streamed }));
        });
        // SAFETY: `Apply` fills its chunk, and the chunks are all of it.
        unsafe { filled(out) }
    }
}

/// Of each channel of some pixels, the mean and the sum of squares around it.
struct Moments<'a> {
    x: &'a [f32],
    channels: usize,
    to: &'a mut [[f64; 2]],
}

impl Body for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, channels, to } = self;
        let mut sums = Scratch::<f32>::of(channels.next_multiple_of(S::LANES));
        let mut squares = Scratch::<f32>::of(channels.next_multiple_of(S::LANES));
        sums.fill(0.0);
        squares.fill(0.0);
        for block in x.chunks(ROWS * channels) {
            for at in (0..channels).step_by(S::LANES) {
                let n = S::LANES.min(channels - at);
                // Around the first pixel: squares around a number near the mean lose nothing.
                let centre = read(s, x, at, n);
                let (mut sum, mut square) = (s.load(&sums[at..]), s.load(&squares[at..]));
                for row in block.chunks_exact(channels) {
                    let v = s.sub(read(s, row, at, n), centre);
                    sum = s.add(sum, v);
                    square = s.fma(v, v, square);
                }
                s.store(&mut sums[at..], sum);
                s.store(&mut squares[at..], square);
            }
        }
        let count = (x.len() / channels) as f64;
        for (channel, to) in to.iter_mut().enumerate() {
            let rest = f64::from(sums[channel]) / count;
            let around = (f64::from(squares[channel]) - count * rest * rest).max(0.0);
            *to = [f64::from(x[channel]) + rest, around];
        }
    }
}

struct Apply<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    activation: Option<Activation>,
    out: &'a mut [MaybeUninit<f32>],
    is_streamed: bool,
}

impl Body for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, scale, shift, activation, out, is_streamed } = self;
        let channels = scale.len();
        let is_aligned = out.as_ptr().addr().is_multiple_of(size_of::<f32>() * S::LANES);
        let is_streamed = is_streamed && is_aligned && channels.is_multiple_of(S::LANES);
        for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            for at in (0..channels).step_by(S::LANES) {
                let n = S::LANES.min(channels - at);
                let mut v = s.fma(read(s, x, at, n), read(s, scale, at, n), read(s, shift, at, n));
                if let Some(activation) = activation {
                    v = activation.apply(s, v);
                }
                let out = &mut out[at..at + n];
                if is_streamed {
                    // SAFETY: a vector's worth of places, whose address is a multiple of its size as rows are whole vectors.
                    unsafe { s.stream_ptr(out.as_mut_ptr().cast(), v) }
                } else if n == S::LANES {
                    s.write(out, v);
                } else {
                    s.write_part(out, v);
                }
            }
        }
        s.fence();
    }
}

/// Doubles height and width of `[rows, w, channels]` by repeating pixels, where rows of several maps may follow each other.
///
/// # Panics
/// If `out` is not four times as long as `x`, or `x` holds part of a row.
pub fn upsample_pixels_2x<'o>(x: &[f32], [w, channels]: [usize; 2], out: Out<'o>) -> &'o mut [f32] {
    let row = product("values of a row", [w, channels]);
    assert!(
        Some(out.len()) == x.len().checked_mul(4) && (x.is_empty() || x.len().is_multiple_of(row)),
        "rows of {row}"
    );
    if x.is_empty() {
        return &mut [];
    }
    (out.par_chunks_mut(4 * row).zip(x.par_chunks(row))).for_each(|(out, x)| {
        let (first, second) = out.split_at_mut(2 * row);
        for (two, x) in first.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels)) {
            let (one, other) = two.split_at_mut(channels);
            one.write_copy_of_slice(x);
            other.write_copy_of_slice(x);
        }
        second.copy_from_slice(first);
    });
    // SAFETY: two rows of twice the width were written for each row, and `out` is four times as long.
    unsafe { filled(out) }
}

/// The channels of `a` `[pixels, channels]`, then those of `b`, of each pixel.
///
/// # Panics
/// If there are no channels, or the lengths don't fit each other.
pub fn join_channels<'o>(a: &[f32], b: &[f32], channels: [usize; 2], out: Out<'o>) -> &'o mut [f32] {
    let [first, second] = channels;
    assert!(first > 0 && second > 0, "{first} and {second} channels");
    let pixels = a.len() / first;
    let all = first.checked_add(second).and_then(|both| both.checked_mul(pixels));
    assert!(a.len() == pixels * first && Some(b.len()) == second.checked_mul(pixels) && all == Some(out.len()));
    let rows = (CHUNK / (first + second)).max(1);
    (out.par_chunks_mut(rows * (first + second)).zip(a.par_chunks(rows * first).zip(b.par_chunks(rows * second))))
        .for_each(|(out, (a, b))| {
            let pixels = a.chunks_exact(first).zip(b.chunks_exact(second));
            for (out, (a, b)) in out.chunks_exact_mut(first + second).zip(pixels) {
                let (to_a, to_b) = out.split_at_mut(first);
                to_a.write_copy_of_slice(a);
                to_b.write_copy_of_slice(b);
            }
        });
    // SAFETY: every pixel's channels were written, and there are as many of both as places.
    unsafe { filled(out) }
}

/// `n` values from `at` on, at most a vector's worth; the other lanes are 0.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::V {
    if n == S::LANES { s.load(&x[at..]) } else { s.load_part(&x[at..at + n], 0.0) }
}
