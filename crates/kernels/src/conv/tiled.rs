//! The convolution on tiles, over maps in which the channels of a pixel lie side by side.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{ConvEpilogue, Prologue, Size, rectified};
use crate::{
    aligned::Aligned,
    amx::{self, Offsets, SIDE, STEP_BYTES, Sums, Tiles},
    elementwise::STREAMED,
    isa::Isa,
    output::{Done, Order, Out, Output, Part},
    packed::DEPTH,
    shares::{even_cuts, part},
    simd::{Body, Simd, vectorize},
    size::{product, sum},
};

/// Words of a pixel's 32 channels.
const PIXEL: usize = DEPTH / 2;

/// `[h, w, c_in]` to `[oh, ow, c_out]`, of the padded picture on tiles. With a stride, pixels that a place of the kernel sees one after
/// the other stand side by side: every `stride`-th row and column is a picture of its own, as far as any place of the kernel begins with
/// it.
pub(super) fn convolve<'o>(
    isa: Isa,
    panels: &[u32],
    x: &[f32],
    prologue: Option<Prologue>,
    size: Size,
    epilogue: ConvEpilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    let Size { c_out, c_in, kernel, h, w, oh, ow, stride } = size;
    let (border, taps, channel_blocks) = (kernel / 2, kernel * kernel, c_in.div_ceil(DEPTH));
    let (ph, pw) = ((h + 2 * border).div_ceil(stride), (w + 2 * border).div_ceil(stride));
    let side = stride.min(kernel);
    let phases = side * side;
    let rows = product("rows of a picture", [channel_blocks, phases, ph]);
    // Rows of the last pixels' tiles reach beyond the picture.
    let beyond = sum("pixels", [product("pixels", [kernel / stride + 1, pw + 1]), SIDE]);
    let inside = product("words of a picture", [rows, pw, PIXEL]);
    let words = sum("words of a picture", [inside, product("words of a picture", [beyond, PIXEL])]);
    // SAFETY: `Interleave` writes each row of the picture, and what lies beyond is filled.
    let picture = unsafe {
        Aligned::<u32>::written(words, |to| {
            let (to, beyond) = to.split_at_mut(inside);
            beyond.fill(MaybeUninit::new(0));
            if inside > 0 {
                to.par_chunks_mut(pw * PIXEL).enumerate().for_each(|(row, to)| {
                    let (block, phase, y) = (row / ph / phases, row / ph % phases, row % ph);
                    let y = (y * stride + phase / side).wrapping_sub(border);
                    let x = if y < h { &x[y * w * c_in..][..w * c_in] } else { &[] };
                    let first = phase % side;
                    vectorize(isa, Interleave { x, prologue, c_in, block, first, stride, border, to });
                });
            }
        })
    };
    let offset = |step: usize| {
        let (block, ky, kx) = (step / taps, step % taps / kernel, step % taps % kernel);
        let phase = ky % stride * side + kx % stride;
        (((block * phases + phase) * ph + ky / stride) * pw + kx / stride) * PIXEL * 4
    };
    let offsets: Vec<u64> = (0..channel_blocks * taps).map(|step| offset(step) as u64).collect();
    let steps = offsets.len();
    let pass = steps.div_ceil(steps.div_ceil(amx::PASS).max(1)).max(1);
    let (blocks, panel_count) = ((oh * pw).div_ceil(SIDE), c_out.div_ceil(SIDE));
    let most = amx::BLOCK_BYTES / product("bytes of a block", [SIDE * DEPTH * 2, channel_blocks.max(1), phases]);
    let (row_tasks, panel_tasks) = amx::split(blocks, panel_count, most);
    let channels = even_cuts(0..panel_count, panel_tasks, SIDE, c_out);
    // Pixels of the result that come before a pixel of the padded width.
    let before = |pixel: usize| pixel / pw * ow + ow.min(pixel % pw);
    let pixels: Vec<usize> = even_cuts(0..blocks, row_tasks, SIDE, oh * pw).into_iter().map(before).collect();
    let (picture, offsets) = (&*picture, Offsets::of(&offsets));
    let is_aligned = c_out.is_multiple_of(SIDE) && out.as_ptr().addr().is_multiple_of(64);
    let is_streamed = is_aligned && out.len() >= STREAMED;
    // SAFETY: a block's last pass goes through `TiledTask::write`, which fills all pixels of the result that the block has.
    unsafe {
        Output::of(out, c_out).each_part(&pixels, &channels, Order::ByRows, |out| {
            let blocks = part(blocks, out.index()[0], row_tasks);
            let task = TiledTask { isa, picture, offsets, panels, pass, pw, size, blocks, epilogue, is_streamed, out };
            vectorize(isa, task)
        })
    }
}

/// One row of the picture: 32 channels of each pixel side by side, as bf16.
struct Interleave<'a> {
    /// The row's pixels with all of their channels, or nothing where it is border.
    x: &'a [f32],
    prologue: Option<Prologue<'a>>,
    c_in: usize,
    block: usize,
    /// The first column, with the border.
    first: usize,
    stride: usize,
    border: usize,
    to: &'a mut [MaybeUninit<u32>],
}

impl Body for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, prologue, c_in, block, first, stride, border, to } = self;
        let (start, count) = (block * DEPTH, DEPTH.min(c_in - block * DEPTH));
        let w = x.len() / c_in.max(1);
        for (i, to) in to.chunks_exact_mut(PIXEL).enumerate() {
            let column = (first + i * stride).wrapping_sub(border);
            let mut pairs = [0.0f32; PIXEL];
            if column < w {
                let pixel = &x[column * c_in + start..][..count];
                for at in (0..count).step_by(2 * S::LANES) {
                    let mut both = [s.splat(0.0); 2];
                    for (half, v) in both.iter_mut().enumerate() {
                        let at = at + half * S::LANES;
                        if at < count {
                            let n = S::LANES.min(count - at);
                            *v = read(s, &pixel[at..], n);
                            if let Some(Prologue { scale, shift, activation }) = prologue {
                                *v = s.fma(*v, read(s, &scale[start + at..], n), read(s, &shift[start + at..], n));
                                if let Some(activation) = activation {
                                    *v = activation.apply(s, *v);
                                }
                            }
                        }
                    }
                    s.store(&mut pairs[at / 2..], s.narrow(both[0], both[1]));
                }
            }
            to.write_copy_of_slice(&pairs.map(f32::to_bits));
        }
    }
}

struct TiledTask<'a> {
    isa: Isa,
    picture: &'a [u32],
    offsets: Offsets<'a>,
    panels: &'a [u32],
    pass: usize,
    pw: usize,
    size: Size,
    blocks: std::ops::Range<usize>,
    epilogue: ConvEpilogue<'a>,
    is_streamed: bool,
    out: Part<'a>,
}

impl Body for TiledTask<'_> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> Done {
        let (offsets, panels, pass) = (self.offsets, self.panels, self.pass);
        let (blocks, columns) = (self.blocks.clone(), self.out.columns());
        let columns = columns.start / SIDE..columns.end.div_ceil(SIDE);
        let words = STEP_BYTES / 4;
        let steps = offsets.len();
        let tiles = Tiles::configure(self.isa);
        let is_one_pass = steps <= pass;
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); if is_one_pass { 1 } else { blocks.len() * columns.len() }];
        for start in (0..steps.max(1)).step_by(pass) {
            let end = steps.min(start + pass);
            for (j, panel) in columns.clone().enumerate() {
                let weights = &panels[(panel * steps + start) * words..(panel * steps + end) * words];
                for (i, block) in blocks.clone().enumerate() {
                    let sums = &mut sums[if is_one_pass { 0 } else { j * blocks.len() + i }];
                    let input = &self.picture[self.picture.len().min(block * SIDE * DEPTH / 2)..];
                    let ahead = weights.as_ptr().wrapping_add((steps + i * (end - start) / blocks.len()) * words);
                    tiles.multiply(input, offsets.part(start..end), weights, sums, start == 0, true, ahead);
                    if end == steps {
                        self.write(s, sums, block * SIDE, panel * SIDE);
                    }
                }
            }
        }
        if self.is_streamed {
            s.fence();
        }
        self.out.done()
    }
}

impl TiledTask<'_> {
    /// Writes sums, whose rows are pixels of the padded width from `first` on and whose columns are channels from `channel` on.
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, sums: &Sums, first: usize, channel: usize) {
        let Self { pw, size: Size { c_out, oh, ow, .. }, epilogue, is_streamed, .. } = *self;
        let ConvEpilogue { bias, activation, residual, slopes } = epilogue;
        let count = SIDE.min(c_out - channel);
        let (mut y, mut x) = (first / pw, first % pw);
        for sums in sums.0.chunks_exact(SIDE) {
            if x < ow && y < oh {
                let pixel = y * ow + x;
                let out = self.out.row(pixel, channel, count);
                for at in (0..count).step_by(S::LANES) {
                    let n = S::LANES.min(count - at);
                    let mut v = s.load(&sums[at..]);
                    if let Some(bias) = bias {
                        v = s.add(v, read(s, &bias[channel + at..], n));
                    }
                    if let Some(activation) = activation {
                        v = activation.apply(s, v);
                    }
                    if let Some(residual) = residual {
                        v = s.add(v, read(s, &residual[pixel * c_out + channel + at..], n));
                    }
                    if let Some(slopes) = slopes {
                        v = rectified(s, v, read(s, &slopes[channel + at..], n));
                    }
                    let out = &mut out[at..at + n];
                    if is_streamed {
                        // SAFETY: a vector's worth of places, as channels are whole panels, whose address is a multiple of its size.
                        unsafe { s.stream_ptr(out.as_mut_ptr().cast(), v) }
                    } else if n == S::LANES {
                        s.write(out, v);
                    } else {
                        s.write_part(out, v);
                    }
                }
            }
            x += 1;
            if x == pw {
                (y, x) = (y + 1, 0);
            }
        }
    }
}

/// The first `n` values, at most a vector's worth.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], n: usize) -> S::V {
    if n == S::LANES { s.load(x) } else { s.load_part(&x[..n], 0.0) }
}
