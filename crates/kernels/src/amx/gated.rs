//! The first half of a gated feed-forward layer on tiles.

use super::{
    BLOCK_BYTES, Offsets, Rearranged, SIDE, STEP_BYTES, Sums, Tiles, kept::tasks, offsets, pairs, rearranged::Also,
    split,
};
use crate::{
    aligned::{Aligned, Scratch, Word},
    elementwise::Activation,
    isa::Isa,
    kept::{KeptMatrix, MatrixRef},
    output::{Done, Order, Output, Part},
    packed::DEPTH,
    pair::{ScaledPair, WithPair},
    shares::even_cuts,
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Words of a tile pair.
const WORDS: usize = STEP_BYTES / 4;

/// A matrix of a gated layer.
#[derive(Clone, Copy)]
enum Panels<'a> {
    /// Pairs.
    Packed(&'a [u32]),
    /// What they are made of in each task.
    Kept(KeptMatrix<'a>),
}

/// Bytes of panels that a task has at a time, where they are made in it.
const KEPT_BYTES: usize = 1_200_000;

/// `value · activation(gate)` of rows that are rearranged, rearranged again: the sums of [`SIDE`] rows and a panel are a step of the next
/// product's inputs, as a panel has as many outputs as a step has inputs. `d` is how many outputs there are, the pairs of the weights are
/// those of the rows' places, and `next` are those that the outputs meet.
#[allow(clippy::too_many_arguments, reason = "the operands of a layer")]
pub(crate) fn gated<'p>(
    isa: Isa,
    weights: [(WithPair, usize); 2],
    inputs: &Rearranged,
    [rows, d_in]: [usize; 2],
    d: usize,
    biases: [Option<&[f32]>; 2],
    activation: Activation,
    next: impl IntoIterator<Item = Option<ScaledPair<'p>>>,
) -> Rearranged {
    const { assert!(SIDE == DEPTH) };
    let also = weights.map(|(weight, which)| inputs.also(which, weight.pair()));
    let panels = weights.map(|(weight, _)| match weight.matrix() {
        MatrixRef::Packed(matrix) => Panels::Packed(pairs(matrix)),
        MatrixRef::Kept(matrix) => Panels::Kept(matrix),
        MatrixRef::Integers(_) => unreachable!("integers take no packed rows"),
    });
    let inputs = &*inputs.words;
    let (steps, blocks, panel_count) = (d_in.div_ceil(DEPTH), rows.div_ceil(SIDE), d.div_ceil(SIDE));
    let offsets = offsets(steps);
    let offsets = Offsets::of(&offsets);
    let width = product("words of a block", [panel_count, WORDS]);
    let panel_bytes = steps.max(1) * STEP_BYTES;
    let (row_tasks, panel_tasks) = match panels {
        [Panels::Packed(_), Panels::Packed(_)] => split(blocks, panel_count, BLOCK_BYTES / panel_bytes),
        // Rows that were cut would have the weights made again for each part.
        _ => (1, tasks(panel_count, (KEPT_BYTES / (2 * panel_bytes)).max(1))),
    };
    let row_cuts = even_cuts(0..blocks, row_tasks, 1, blocks);
    let column_cuts = even_cuts(0..panel_count, panel_tasks, WORDS, panel_count * WORDS);
    // SAFETY: `Task` writes all words of each of its blocks and panels.
    let words = unsafe {
        Aligned::<u32>::written(product("words of rearranged inputs", [blocks, width]), |to| {
            if to.is_empty() {
                return;
            }
            let to = Output::of(u32::as_places(to), width);
            to.each_part(&row_cuts, &column_cuts, Order::ByRows, |to| {
                vectorize(isa, Task { isa, panels, also, inputs, offsets, d, biases, activation, to })
            });
        })
    };
    Rearranged::with(isa, words, width, next)
}

struct Task<'a> {
    isa: Isa,
    panels: [Panels<'a>; 2],
    also: [Option<Also<'a>>; 2],
    inputs: &'a [u32],
    offsets: Offsets<'a>,
    d: usize,
    biases: [Option<&'a [f32]>; 2],
    activation: Activation,
    to: Part<'a>,
}

impl Body for Task<'_> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        let Self { isa, panels, also, inputs, offsets, d, biases, activation, mut to } = self;
        let (blocks, columns) = (to.rows(), to.columns());
        let steps = offsets.len();
        let columns = columns.start / WORDS..columns.end / WORDS;
        let size = steps * WORDS;
        let mut made = panels.map(|panels| match panels {
            Panels::Packed(_) => Scratch::<u32>::of(0),
            Panels::Kept(_) => Scratch::of(columns.len() * size),
        });
        for (made, panels) in made.iter_mut().zip(panels) {
            if let Panels::Kept(matrix) = panels {
                for (panel, to) in columns.clone().zip(made.chunks_exact_mut(size.max(1))) {
                    matrix.pairs(s, panel, 0..steps, to);
                }
            }
        }
        // Not before the matrices have given their values, which may be work for other tasks of this thread.
        let tiles = Tiles::configure(isa);
        let weights: [&[u32]; 2] = std::array::from_fn(|i| match panels[i] {
            Panels::Packed(panels) => &panels[columns.start * size..],
            Panels::Kept(_) => &made[i],
        });
        let mut sums = [Sums([0.0; SIDE * SIDE]); 2];
        let are_kept = matches!(panels, [Panels::Kept(_), _] | [_, Panels::Kept(_)]);
        // What stays in the second cache is the rows, or else the panels.
        let (outer, inner) = if are_kept { (blocks.len(), columns.len()) } else { (columns.len(), blocks.len()) };
        for (first, second) in (0..outer).flat_map(|first| (0..inner).map(move |second| (first, second))) {
            let (i, j) = if are_kept { (first, second) } else { (second, first) };
            let (block, panel) = (blocks.start + i, columns.start + j);
            let mut bias = [[0.0; SIDE]; 2];
            for (to, from) in bias.iter_mut().zip(biases) {
                if let Some(from) = from {
                    let count = SIDE.min(d - panel * SIDE);
                    to[..count].copy_from_slice(&from[panel * SIDE..][..count]);
                }
            }
            let input = &inputs[block * size..][..size];
            for ((sums, weights), also) in sums.iter_mut().zip(weights).zip(also) {
                let weights = &weights[j * size..][..size];
                let ahead = match are_kept {
                    true => input.as_ptr().wrapping_add((steps + j * steps / columns.len()) * WORDS),
                    false => weights.as_ptr().wrapping_add((steps + i * steps / blocks.len()) * WORDS),
                };
                let more = also.map(|also| also.of(block, panel));
                tiles.multiply_and(input, offsets, weights, more, sums, true, true, ahead);
            }
            let to = to.row(block, panel * WORDS, WORDS);
            for r in 0..SIDE {
                for at in (0..SIDE).step_by(2 * S::LANES) {
                    let mut both = [s.splat(0.0); 2];
                    for (half, v) in both.iter_mut().enumerate() {
                        let at = at + half * S::LANES;
                        let value = s.add(s.load(&sums[0].0[r * SIDE + at..]), s.load(&bias[0][at..]));
                        let gate = s.add(s.load(&sums[1].0[r * SIDE + at..]), s.load(&bias[1][at..]));
                        *v = s.mul(value, activation.apply(s, gate));
                    }
                    s.write(&mut to[(r * SIDE + at) / 2..], s.narrow(both[0], both[1]));
                }
            }
        }
        to.done()
    }
}
