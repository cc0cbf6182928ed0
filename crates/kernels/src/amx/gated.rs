//! The first half of a gated feed-forward layer on tiles.

use super::{BLOCK_BYTES, Offsets, SIDE, STEP_BYTES, Sums, Tiles, cuts, offsets, split};
use crate::{
    aligned::{Aligned, Word},
    elementwise::Activation,
    isa::Isa,
    output::{Done, Order, Output, Part},
    packed::DEPTH,
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Words of a tile pair.
const WORDS: usize = STEP_BYTES / 4;

/// `value · activation(gate)` of rows that are rearranged, rearranged again: the sums of [`SIDE`] rows and a panel are a step of the next
/// product's inputs, as a panel has as many outputs as a step has inputs. `d` is how many outputs there are.
pub(crate) fn gated(
    isa: Isa,
    panels: [&[u32]; 2],
    inputs: &[u32],
    [rows, d_in]: [usize; 2],
    d: usize,
    biases: [Option<&[f32]>; 2],
    activation: Activation,
) -> Aligned<u32> {
    const { assert!(SIDE == DEPTH) };
    let (steps, blocks, panel_count) = (d_in.div_ceil(DEPTH), rows.div_ceil(SIDE), d.div_ceil(SIDE));
    let offsets = offsets(steps);
    let offsets = Offsets::of(&offsets);
    let width = product("words of a block", [panel_count, WORDS]);
    let (row_tasks, panel_tasks) = split(blocks, panel_count, BLOCK_BYTES / (steps.max(1) * STEP_BYTES));
    let row_cuts: Vec<usize> = cuts(blocks, row_tasks, blocks * SIDE).into_iter().map(|row| row / SIDE).collect();
    let column_cuts: Vec<usize> =
        cuts(panel_count, panel_tasks, panel_count * SIDE).into_iter().map(|column| column / SIDE * WORDS).collect();
    // SAFETY: `Task` writes all words of each of its blocks and panels.
    unsafe {
        Aligned::<u32>::written(product("words of rearranged inputs", [blocks, width]), |to| {
            if to.is_empty() {
                return;
            }
            let to = Output::of(u32::as_places(to), width);
            to.each_part(&row_cuts, &column_cuts, Order::ByRows, |to| {
                vectorize(isa, Task { isa, panels, inputs, offsets, d, biases, activation, to })
            });
        })
    }
}

struct Task<'a> {
    isa: Isa,
    panels: [&'a [u32]; 2],
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
        let Self { isa, panels, inputs, offsets, d, biases, activation, mut to } = self;
        let (blocks, columns) = (to.rows(), to.columns());
        let steps = offsets.len();
        let tiles = Tiles::configure(isa);
        let mut sums = [Sums([0.0; SIDE * SIDE]); 2];
        for panel in columns.start / WORDS..columns.end / WORDS {
            let mut bias = [[0.0; SIDE]; 2];
            for (to, from) in bias.iter_mut().zip(biases) {
                if let Some(from) = from {
                    let count = SIDE.min(d - panel * SIDE);
                    to[..count].copy_from_slice(&from[panel * SIDE..][..count]);
                }
            }
            for (i, block) in blocks.clone().enumerate() {
                let input = &inputs[block * steps * WORDS..][..steps * WORDS];
                for (sums, panels) in sums.iter_mut().zip(panels) {
                    let weights = &panels[panel * steps * WORDS..][..steps * WORDS];
                    let ahead = weights.as_ptr().wrapping_add((steps + i * steps / blocks.len()) * WORDS);
                    tiles.multiply(input, offsets, weights, sums, true, true, ahead);
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
        }
        to.done()
    }
}
