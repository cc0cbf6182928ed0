//! Inputs in the order in which tiles read them.

use super::Weights;
use crate::{
    epilogue::Rows,
    isa::Isa,
    simd::{Body, Simd, vectorize},
};

/// Rows of a tile, so that its sums and one step's factors fill the registers.
#[inline(always)]
pub(crate) const fn tile_rows<S: Simd>() -> usize {
    match S::LANES {
        16 => 14, // 28 of 32 registers
        8 => 6,   // 12 of 16
        _ => 8,   // 16 of 32
    }
}

/// [`tile_rows`] of a level.
pub(crate) fn tile_rows_of(isa: Isa) -> usize {
    struct Ask;
    impl Body for Ask {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            tile_rows::<S>()
        }
    }
    vectorize(isa, Ask)
}

/// Tiles of rows, each with one step's inputs side by side.
#[inline(always)]
pub(crate) fn rearrange<W: Weights, S: Simd>(
    s: S,
    block: &mut [f32],
    input: Rows,
    rows: std::ops::Range<usize>,
    steps: std::ops::Range<usize>,
) {
    let depth = steps.len();
    let tile_rows = tile_rows::<S>();
    for (tile, first) in rows.clone().step_by(tile_rows).enumerate() {
        let tile = &mut block[tile * tile_rows * depth..][..tile_rows * depth];
        let count = tile_rows.min(rows.end - first);
        for start in (0..depth).step_by(16) {
            let width = 16.min(depth - start);
            let mut square = [[0.0f32; 16]; 16];
            for (r, to) in square.iter_mut().enumerate().take(count) {
                W::gather(s, input.row(first + r), steps.start + start, width, to);
            }
            s.transpose(&mut square);
            for (i, column) in square.iter().enumerate().take(width) {
                let to = &mut tile[(start + i) * tile_rows..][..tile_rows];
                to.copy_from_slice(&column[..tile_rows]);
            }
        }
    }
}
