//! Pairs of bf16 in the order that tiles and dot products read.

use rayon::prelude::*;

use super::{DEPTH, PAIR_WIDTH, Values, each_panel};
use crate::{
    aligned::{Aligned, Scratch, Word},
    isa::Isa,
    simd::{Body, Simd, Stored, vectorize},
    size::{product, sum},
};

/// Outputs that are packed together, a cache line of each pair.
const SIDE: usize = 16;

/// Packs `[d_out, d_in, taps]` into panels of [`PAIR_WIDTH`] outputs. A panel has for each [`DEPTH`] inputs and each tap the pairs of these
/// inputs, earlier ones first; missing outputs and inputs are 0.
pub(crate) fn pack_pairs(isa: Isa, values: Values, [d_out, d_in, taps]: [usize; 3]) -> Aligned<u32> {
    let panel_size = product("weights of a panel", [d_in.div_ceil(DEPTH), taps, DEPTH / 2 * PAIR_WIDTH]);
    each_panel(d_out.div_ceil(PAIR_WIDTH), panel_size, |panel, to| {
        let first = panel * PAIR_WIDTH;
        vectorize(isa, Panel { values, outputs: PAIR_WIDTH.min(d_out - first), first, d_in, taps, to });
    })
}

/// Some outputs from `first` on.
struct Panel<'a> {
    values: Values<'a>,
    first: usize,
    outputs: usize,
    d_in: usize,
    taps: usize,
    to: &'a mut [u32],
}

impl Body for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { values, first, outputs, d_in, taps, to } = self;
        let row = product("inputs", [DEPTH, taps]);
        let mut rows = Scratch::<f32>::of(product("inputs", [SIDE, row]));
        let mut columns = Scratch::<f32>::of(product("inputs", [SIDE, row]));
        for start in (0..d_in).step_by(DEPTH) {
            let len = DEPTH.min(d_in - start) * taps;
            for side in (0..outputs).step_by(SIDE) {
                let outputs = SIDE.min(outputs - side);
                for (o, to) in rows.chunks_exact_mut(row).enumerate().take(outputs) {
                    unpack(s, values, ((first + side + o) * d_in + start) * taps, &mut to[..len]);
                }
                transpose(s, &rows, row, outputs, &mut columns);
                columns[len * SIDE..].fill(0.0);
                let to = &mut to[start / DEPTH * taps * (DEPTH / 2 * PAIR_WIDTH)..];
                for tap in 0..taps {
                    for pair in 0..DEPTH / 2 {
                        let [low, high] = [0, 1].map(|i| &columns[((2 * pair + i) * taps + tap) * SIDE..][..SIDE]);
                        let to = &mut to[(tap * (DEPTH / 2) + pair) * PAIR_WIDTH + side..][..SIDE];
                        for at in (0..SIDE).step_by(S::LANES) {
                            s.store(u32::as_floats(&mut to[at..]), s.join(s.load(&low[at..]), s.load(&high[at..])));
                        }
                    }
                }
            }
        }
    }
}

/// Packs `[d_out, d_in]` into panels of `width` outputs, a multiple of [`SIDE`]: each pair of inputs' words of these outputs. The last panel
/// has no places for missing outputs. Inputs are filled up with 0 to a multiple of [`DEPTH`], and behind all is room to read a whole
/// panel's words from any pair on.
pub(crate) fn narrow_pairs(isa: Isa, values: Values, [d_out, d_in]: [usize; 2], width: usize) -> Aligned<u32> {
    let pairs = product("inputs", [d_in.div_ceil(DEPTH), DEPTH / 2]);
    let size = product("weights of a panel", [pairs, width]);
    let mut words = Aligned::zeros(sum("weights", [product("weights", [pairs, d_out]), width]));
    (words.par_chunks_mut(size.max(1)).take(d_out.div_ceil(width)).enumerate()).for_each(|(panel, to)| {
        let first = panel * width;
        vectorize(isa, NarrowPanel { values, outputs: width.min(d_out - first), first, d_in, to });
    });
    words
}

/// Outputs from `first` on, as many as stand side by side.
struct NarrowPanel<'a> {
    values: Values<'a>,
    first: usize,
    outputs: usize,
    d_in: usize,
    to: &'a mut [u32],
}

impl Body for NarrowPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { values, first, outputs, d_in, to } = self;
        let mut rows = Scratch::<f32>::of(SIDE * DEPTH);
        for start in (0..d_in).step_by(DEPTH) {
            let len = DEPTH.min(d_in - start);
            // The last ones first: where they are fewer than words are written, those of the next pair replace the others.
            for side in (0..outputs).step_by(SIDE).rev() {
                rows.fill(0.0);
                for (o, row) in rows.chunks_exact_mut(DEPTH).enumerate().take(outputs - side) {
                    unpack(s, values, (first + side + o) * d_in + start, &mut row[..len]);
                }
                s.columns_to_pairs(&rows, DEPTH, &mut to[start / 2 * outputs + side..], outputs);
            }
        }
    }
}

/// Columns of [`SIDE`] numbers of the rows, which are as many and 0 from `outputs` on.
#[inline(always)]
fn transpose<S: Simd>(s: S, rows: &[f32], row: usize, outputs: usize, columns: &mut [f32]) {
    for (start, to) in (0..row).step_by(SIDE).zip(columns.chunks_exact_mut(SIDE * SIDE)) {
        let mut square = [[0.0f32; SIDE]; SIDE];
        for (o, to) in square.iter_mut().enumerate().take(outputs) {
            to.copy_from_slice(&rows[o * row + start..][..SIDE]);
        }
        s.transpose(&mut square);
        to.copy_from_slice(square.as_flattened());
    }
}

/// Values from `from` on.
#[inline(always)]
pub(crate) fn unpack<S: Simd>(s: S, values: Values, from: usize, to: &mut [f32]) {
    match values {
        Values::F32(v) => to.copy_from_slice(&v[from..][..to.len()]),
        Values::F16(v) => widen(s, &v[from..][..to.len()], to),
        Values::Bf16(v) => widen(s, &v[from..][..to.len()], to),
    }
}

#[inline(always)]
pub(crate) fn widen<S: Simd, T: Stored + Into<f32>>(s: S, from: &[T], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    let whole = from.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: the vector from `at` on lies in `from`.
        let v = unsafe { T::load(s, from.as_ptr().add(at)) };
        s.store(&mut to[at..], v);
    }
    for (to, &from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = from.into();
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// A value's place by the order that this file promises.
    fn place([o, i, tap]: [usize; 3], d_in: usize, taps: usize) -> usize {
        let step = o / PAIR_WIDTH * d_in.div_ceil(DEPTH) * taps + i / DEPTH * taps + tap;
        (step * DEPTH / 2 + i % DEPTH / 2) * PAIR_WIDTH + o % PAIR_WIDTH
    }

    #[test]
    fn narrow_panels_have_every_value_at_its_place_and_no_places_for_missing_outputs() {
        for isa in Isa::available() {
            for (width, [d_out, d_in]) in [
                (16, [1usize, 1usize]),
                (16, [40, 70]),
                (16, [48, 33]),
                (32, [16, 96]),
                (32, [20, 64]),
                (32, [33, 40]),
                (32, [57, 31]),
                (32, [4, 0]),
            ] {
                let values: Vec<f32> = (0..d_out * d_in).map(|i| (i as f32 * 0.37).sin()).collect();
                let pairs = d_in.div_ceil(DEPTH) * DEPTH / 2;
                let mut expected = vec![0u32; pairs * d_out];
                for (n, [o, i]) in (0..values.len()).map(|n| (n, [n / d_in, n % d_in])) {
                    let (panel, side_by_side) = (o / width, width.min(d_out - o / width * width));
                    let bits = u32::from(bf16::from_f32(values[n]).to_bits());
                    expected[panel * pairs * width + i / 2 * side_by_side + o % width] |= bits << (16 * (i % 2));
                }
                let packed = narrow_pairs(isa, Values::F32(&values), [d_out, d_in], width);
                assert_eq!(packed.len(), expected.len() + width);
                assert_eq!(packed[..expected.len()], expected, "{isa:?} {width} [{d_out}, {d_in}]");
            }
        }
    }

    #[test]
    fn every_value_is_at_its_place_rounded_once_and_all_other_places_are_0() {
        for isa in Isa::available() {
            for shape @ [d_out, d_in, taps] in
                [[1usize, 1, 1], [32, 32, 1], [33, 70, 1], [50, 37, 9], [16, 64, 4], [3, 0, 9]]
            {
                let singles: Vec<f32> = (0..d_out * d_in * taps).map(|i| (i as f32 * 0.37).sin()).collect();
                let halves: Vec<f16> = singles.iter().map(|&v| f16::from_f32(v)).collect();
                let brains: Vec<bf16> = singles.iter().map(|&v| bf16::from_f32(v)).collect();
                for values in [Values::F32(&singles), Values::F16(&halves), Values::Bf16(&brains)] {
                    let panels = d_out.div_ceil(PAIR_WIDTH) * d_in.div_ceil(DEPTH) * taps;
                    let mut expected = vec![0u32; panels * DEPTH / 2 * PAIR_WIDTH];
                    for (n, [o, i, tap]) in
                        (0..singles.len()).map(|n| (n, [n / taps / d_in, n / taps % d_in, n % taps]))
                    {
                        let bits = u32::from(bf16::from_f32(values.at(n)).to_bits());
                        expected[place([o, i, tap], d_in, taps)] |= bits << (16 * (i % 2));
                    }
                    assert_eq!(&*pack_pairs(isa, values, shape), expected, "{isa:?} {shape:?}");
                }
            }
        }
    }
}
