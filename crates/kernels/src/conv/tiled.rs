//! The convolution on tiles.

use rayon::prelude::*;

use super::{Place, Size};
use crate::{
    aligned::Aligned,
    amx::{self, Offsets, SIDE, STEP_BYTES, Sums, Tiles},
    isa::Isa,
    output::{Done, Order, Output, Part},
    packed::DEPTH,
    simd::{Body, Simd, vectorize},
    size::{product, sum},
};

/// Words of a pixel's 32 channels.
const PIXEL: usize = DEPTH / 2;

/// The padded picture on tiles. With a stride, pixels that a place of the kernel sees one after the other stand side by side: every
/// `stride`-th row and column is a picture of its own, as far as any place of the kernel begins with it.
pub(super) fn convolve<'o>(
    isa: Isa,
    panels: &[u32],
    x: &[f32],
    size: Size,
    place: Place,
    out: Output<'o>,
) -> &'o mut [f32] {
    let Size { c_out, c_in, kernel, h, w, oh, ow, stride } = size;
    let (border, taps, channel_blocks) = (kernel / 2, kernel * kernel, c_in.div_ceil(DEPTH));
    let (ph, pw) = ((h + 2 * border).div_ceil(stride), (w + 2 * border).div_ceil(stride));
    let side = stride.min(kernel);
    let phases = side * side;
    let rows = product("rows of a picture", [channel_blocks, phases, ph]);
    // Rows of the last pixels' tiles reach beyond the picture.
    let beyond = sum("pixels", [product("pixels", [kernel / stride + 1, pw + 1]), SIDE]);
    let pixels = sum("pixels", [product("pixels", [rows, pw]), beyond]);
    let mut picture = Aligned::<u32>::zeros(product("words of a picture", [pixels, PIXEL]));
    picture[..rows * pw * PIXEL].par_chunks_mut(pw * PIXEL).enumerate().for_each(|(row, to)| {
        let (block, phase, y) = (row / ph / phases, row / ph % phases, row % ph);
        let y = (y * stride + phase / side).wrapping_sub(border);
        if y < h {
            vectorize(isa, Interleave { x, size, block, y, phase: phase % side, to });
        }
    });
    let offset = |step: usize| {
        let (block, ky, kx) = (step / taps, step % taps / kernel, step % taps % kernel);
        let phase = ky % stride * side + kx % stride;
        (((block * phases + phase) * ph + ky / stride) * pw + kx / stride) * PIXEL * 4
    };
    let offsets: Vec<u64> = (0..channel_blocks * taps).map(|step| offset(step) as u64).collect();
    let steps = offsets.len();
    let pass = steps.div_ceil(steps.div_ceil(amx::PASS));
    let (blocks, panel_count) = ((oh * pw).div_ceil(SIDE), c_out.div_ceil(SIDE));
    let most = amx::BLOCK_BYTES / product("bytes of a block", [SIDE * DEPTH * 2, channel_blocks, phases]);
    let (row_tasks, panel_tasks) = amx::split(blocks, panel_count, most);
    let channels = amx::cuts(panel_count, panel_tasks, c_out);
    // Pixels of the result that come before a pixel of the padded width.
    let before = |pixel: usize| pixel / pw * ow + ow.min(pixel % pw);
    let pixels: Vec<usize> = amx::cuts(blocks, row_tasks, oh * pw).into_iter().map(before).collect();
    let (picture, offsets) = (&*picture, Offsets::of(&offsets));
    // SAFETY: a block's last pass goes through `write`, which fills all pixels of the result that the block has.
    unsafe {
        out.each_part(&channels, &pixels, Order::ByColumns, |out| {
            let blocks = amx::part(blocks, out.index()[1], row_tasks);
            vectorize(isa, TiledTask { isa, picture, offsets, panels, pass, pw, size, blocks, place, out })
        })
    }
}

/// One row of the picture: 32 channels of each pixel side by side, as bf16.
struct Interleave<'a> {
    x: &'a [f32],
    size: Size,
    block: usize,
    y: usize,
    phase: usize,
    to: &'a mut [u32],
}

impl Body for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, size: Size { c_in, kernel, h, w, stride, .. }, block, y, phase, to } = self;
        let border = kernel / 2;
        let channels = DEPTH.min(c_in - block * DEPTH);
        let columns = to.len() / (DEPTH / 2);
        for start in (0..columns).step_by(16) {
            let count = 16.min(columns - start);
            let mut squares = [[[0.0f32; 16]; 16]; 2];
            for c in 0..channels {
                let row = &x[((block * DEPTH + c) * h + y) * w..][..w];
                let square = &mut squares[c / 16][c % 16];
                let first = start * stride + phase;
                if stride == 1 && first >= border && first - border + 16 <= w {
                    square.copy_from_slice(&row[first - border..][..16]);
                } else {
                    for i in 0..count {
                        let column = (first + i * stride).wrapping_sub(border);
                        square[i] = if column < w { row[column] } else { 0.0 };
                    }
                }
            }
            s.transpose(&mut squares[0]);
            s.transpose(&mut squares[1]);
            for i in 0..count {
                let mut pixel = [0.0; DEPTH];
                pixel[..16].copy_from_slice(&squares[0][i]);
                pixel[16..].copy_from_slice(&squares[1][i]);
                s.round_to_pairs(&pixel, &mut to[(start + i) * DEPTH / 2..][..DEPTH / 2]);
            }
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
    place: Place<'a>,
    out: Part<'a>,
}

impl Body for TiledTask<'_> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        let Self { isa, picture, offsets, panels, pass, pw, size, blocks, place, mut out } = self;
        let columns = out.rows().start / SIDE..out.rows().end.div_ceil(SIDE);
        let words = STEP_BYTES / 4;
        let steps = offsets.len();
        let tiles = Tiles::configure(isa);
        let is_one_pass = steps <= pass;
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); if is_one_pass { 1 } else { blocks.len() * columns.len() }];
        for start in (0..steps).step_by(pass) {
            let end = steps.min(start + pass);
            for (j, panel) in columns.clone().enumerate() {
                let weights = &panels[(panel * steps + start) * words..(panel * steps + end) * words];
                for (i, block) in blocks.clone().enumerate() {
                    let sums = &mut sums[if is_one_pass { 0 } else { j * blocks.len() + i }];
                    let input = &picture[block * SIDE * DEPTH / 2..];
                    let ahead = weights.as_ptr().wrapping_add((steps + i * (end - start) / blocks.len()) * words);
                    tiles.multiply(input, offsets.part(start..end), weights, sums, start == 0, true, ahead);
                    if end == steps {
                        write(s, sums, block * SIDE, panel * SIDE, pw, size, place, &mut out);
                    }
                }
            }
        }
        out.done()
    }
}

/// Rows are pixels of the padded width, columns channels.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a block's place in the picture and in the result")]
fn write<S: Simd>(
    s: S,
    sums: &Sums,
    first: usize,
    channel: usize,
    pw: usize,
    size: Size,
    place: Place,
    out: &mut Part,
) {
    for side in [0, 16] {
        let mut squares = [[[0.0f32; 16]; 16]; 2];
        for r in 0..SIDE {
            squares[r / 16][r % 16].copy_from_slice(&sums.0[r * SIDE + side..][..16]);
        }
        s.transpose(&mut squares[0]);
        s.transpose(&mut squares[1]);
        for c in 0..16.min(size.c_out.saturating_sub(channel + side)) {
            let mut row = [0.0; SIDE];
            row[..16].copy_from_slice(&squares[0][c]);
            row[16..].copy_from_slice(&squares[1][c]);
            let mut done = 0;
            while done < SIDE && (first + done) / pw < size.oh {
                let (y, x) = ((first + done) / pw, (first + done) % pw);
                let run = (pw - x).min(SIDE - done);
                let inside = size.ow.saturating_sub(x).min(run);
                if inside > 0 {
                    place.write(s, out, channel + side + c, y * size.ow + x, &row[done..done + inside]);
                }
                done += run;
            }
        }
    }
}
