//! Products with matrices that stay as they are stored: each task has a few panels' weights once, in the second cache, and takes all rows
//! past them.

use std::ops::Range;

use super::{Offsets, SIDE, STEP_BYTES, Sums, Tiles, offsets, rearranged::Also};
use crate::{
    aligned::Scratch,
    epilogue::Finish,
    isa::Isa,
    kept::{KEPT_COLUMNS, KeptMatrix},
    output::{Done, Order, Output, Part},
    packed::DEPTH,
    shares::{even_cuts, part},
    simd::{Body, Simd, vectorize},
};

/// Words of a step of a panel, or of a block of rows.
const WORDS: usize = STEP_BYTES / 4;

/// Panels of a task.
const PANELS: usize = 6;

/// Steps that a task's panels have at a time: with [`PANELS`] of them, 1.2 MB of the second cache.
const PASS: usize = 96;

/// Steps of a block's rows that stay in the first cache while panels pass by.
const INNER: usize = 16;

/// [`multiply`](super::multiply()) with a matrix that stays as it is stored.
pub(super) fn multiply<'o>(
    isa: Isa,
    matrix: KeptMatrix,
    inputs: &[u32],
    also: Option<Also>,
    [rows, d_in]: [usize; 2],
    finish: Finish,
    out: Output<'o>,
) -> &'o mut [f32] {
    let (steps, panels) = (d_in.div_ceil(DEPTH), out.width().div_ceil(SIDE));
    let offsets = offsets(steps);
    let offsets = Offsets::of(&offsets);
    // Whole blocks of every format.
    let pass = steps.div_ceil(steps.div_ceil(PASS).max(1)).max(1).next_multiple_of(KEPT_COLUMNS / DEPTH);
    let columns = even_cuts(0..panels, tasks(panels, PANELS), SIDE, out.width());
    // SAFETY: a block's last pass goes through `Finish::write`, which fills every row that it is given.
    unsafe {
        out.each_part(&[0, rows], &columns, Order::ByRows, |out| {
            vectorize(isa, Task { isa, matrix, inputs, offsets, also, pass, finish, out })
        })
    }
}

/// Into how many tasks panels are cut, of at most `most` panels each: work for every thread, and the same for each of them.
pub(crate) fn tasks(panels: usize, most: usize) -> usize {
    let threads = rayon::current_num_threads();
    panels.div_ceil(most).next_multiple_of(threads).min(panels).max(1)
}

struct Task<'a> {
    isa: Isa,
    matrix: KeptMatrix<'a>,
    inputs: &'a [u32],
    offsets: Offsets<'a>,
    also: Option<Also<'a>>,
    pass: usize,
    finish: Finish<'a>,
    out: Part<'a>,
}

impl Body for Task<'_> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        let Self { isa, matrix, inputs, offsets, also, pass, finish, mut out } = self;
        let (rows, width) = (out.rows().end, out.columns().end);
        let blocks = rows.div_ceil(SIDE);
        let panels = out.columns().start / SIDE..width.div_ceil(SIDE);
        let steps = offsets.len();
        let is_one_pass = steps <= pass;
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); panels.len() * if is_one_pass { 1 } else { blocks }];
        let mut weights = Scratch::<u32>::of(panels.len() * pass.min(steps) * WORDS);
        for start in (0..steps.max(1)).step_by(pass) {
            let end = steps.min(start + pass);
            let size = (end - start) * WORDS;
            for (panel, to) in panels.clone().zip(weights.chunks_exact_mut(size.max(1))) {
                matrix.pairs(s, panel, start..end, to);
            }
            // Not before the matrix has given its values, which may be work for other tasks of this thread.
            let tiles = Tiles::configure(isa);
            for block in 0..blocks {
                let sums = &mut sums[if is_one_pass { 0 } else { block * panels.len() }..][..panels.len()];
                let count = SIDE.min(rows - block * SIDE);
                let input = &inputs[block * steps * WORDS..][..steps * WORDS];
                let next = Ahead { rows: input.as_ptr().wrapping_add(steps * WORDS), panels: panels.len() };
                let also = also.filter(|_| end == steps).map(|also| (also, block, panels.start));
                block_of(&tiles, input, offsets, start..end, &weights, size, also, sums, count > 16, next);
                if end == steps {
                    for (panel, sums) in panels.clone().zip(sums.iter()) {
                        for r in 0..count {
                            let row = block * SIDE + r;
                            let out = out.row(row, panel * SIDE, SIDE.min(width - panel * SIDE));
                            let sums = &sums.0[r * SIDE..][..SIDE];
                            let vectors = [s.load(sums), s.load(&sums[SIDE / 2..])];
                            finish.write(s, &vectors, row, panel * SIDE, out);
                        }
                    }
                }
            }
        }
        out.done()
    }
}

/// The block of rows that comes next, of which a part is fetched with each panel.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    rows: *const u32,
    panels: usize,
}

/// Adds the products of some steps of a block's rows with each panel, whose steps lie `size` words apart in `weights`; and what is added
/// to them for this block from this panel on.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the operands of one loop")]
fn block_of(
    tiles: &Tiles,
    input: &[u32],
    offsets: Offsets,
    steps: Range<usize>,
    weights: &[u32],
    size: usize,
    also: Option<(Also, usize, usize)>,
    sums: &mut [Sums],
    is_high: bool,
    next: Ahead,
) {
    let inner = steps.len().div_ceil(steps.len().div_ceil(INNER).max(1)).max(1);
    for start in steps.clone().step_by(inner).chain(steps.is_empty().then_some(0)) {
        let inner = start..steps.end.min(start + inner);
        for (i, sums) in sums.iter_mut().enumerate() {
            let weights = &weights[i * size + (start - steps.start) * WORDS..][..inner.len() * WORDS];
            let ahead = next.rows.wrapping_add(start * WORDS + part(inner.len() * WORDS, i, next.panels).start);
            let also = also.filter(|_| inner.end == steps.end);
            let more = also.map(|(also, block, first)| also.of(block, first + i));
            let offsets = offsets.part(inner.clone());
            tiles.multiply_and(input, offsets, weights, more, sums, start == 0, is_high, ahead);
        }
    }
}
