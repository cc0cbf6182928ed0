//! Inputs as integers, in the order in which tiles read them.

use crate::{
    aligned::Aligned,
    epilogue::Rows,
    integers::{Factors, GROUP, HALF_GROUP, IntegerMatrix},
    packed::each_panel,
    simd::{Body, Simd, vectorize},
    size::product,
    vector::{tile_rows, tile_rows_of},
};

/// What is too small to have a scale: the whole group counts as 0. Nothing that a model is made of comes near it.
const LEAST: f32 = 1e-30;

/// All rows, tile after tile, and in a tile group after group; missing rows are 0.
pub(super) struct Inputs {
    words: Aligned<u32>,
    /// Words of a group.
    record: usize,
    groups: usize,
}

impl Inputs {
    /// Of the rows that a matrix is multiplied with. A group of a tile takes a row of words for each of its steps, for its rows' scales, and for
    /// what the rows' sums begin with, or where weights have shifts for the sums of what the rows' integers stand for.
    pub(super) fn of(matrix: IntegerMatrix, input: Rows) -> Self {
        let isa = matrix.isa();
        let tile_rows = tile_rows_of(isa);
        let record = (matrix.group_steps() + 2) * tile_rows;
        let groups = input.d_in / matrix.group();
        let size = product("inputs of a tile", [record, groups]);
        let (factors, has_shifts) = (matrix.factors(), matrix.has_shifts());
        let words = each_panel(input.rows.div_ceil(tile_rows), size, |tile, to| {
            let tile = Tile { factors, has_shifts, input, first: tile * tile_rows, record, to };
            match (matrix.group(), factors) {
                (GROUP, Factors::Bytes { .. }) => vectorize(isa, Of::<GROUP, true>(tile)),
                (GROUP, Factors::Words) => vectorize(isa, Of::<GROUP, false>(tile)),
                (_, Factors::Bytes { .. }) => vectorize(isa, Of::<HALF_GROUP, true>(tile)),
                (_, Factors::Words) => vectorize(isa, Of::<HALF_GROUP, false>(tile)),
            }
        });
        Self { words, record, groups }
    }

    /// Some groups of a tile.
    #[inline(always)]
    pub(super) fn tile(&self, tile: usize, groups: std::ops::Range<usize>) -> &[u32] {
        let start = tile * self.groups;
        &self.words[(start + groups.start) * self.record..(start + groups.end) * self.record]
    }
}

/// The rows from `first` on, as many as a tile has.
struct Tile<'a> {
    factors: Factors,
    has_shifts: bool,
    input: Rows<'a>,
    first: usize,
    record: usize,
    to: &'a mut [u32],
}

/// A tile in groups of `N`, as bytes or words.
struct Of<'a, const N: usize, const BYTES: bool>(Tile<'a>);

impl<const N: usize, const BYTES: bool> Body for Of<'_, N, BYTES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { factors, has_shifts, input, first, record, to } = self.0;
        let tile_rows = tile_rows::<S>();
        let (steps, most) = (factors.steps_of(N), f32::from(factors.most_input()));
        let least = i32::from(factors.least());
        for (group, to) in to.chunks_exact_mut(record).enumerate() {
            for r in 0..tile_rows.min(input.rows - first) {
                let x = &input.row(first + r).as_chunks::<N>().0[group];
                let Rounded { whole, scale, sum } = rounded(s, x, most);
                if BYTES {
                    let mut codes = [0; N];
                    for (code, whole) in codes.iter_mut().zip(whole) {
                        *code = whole.to_bits() as u8;
                    }
                    for (step, &four) in codes.as_chunks().0.iter().enumerate() {
                        to[step * tile_rows + r] = u32::from_le_bytes(four);
                    }
                } else {
                    let mut codes = [0; N];
                    for (code, whole) in codes.iter_mut().zip(whole) {
                        *code = whole.to_bits() as u16;
                    }
                    for (step, &[low, high]) in codes.as_chunks().0.iter().enumerate() {
                        to[step * tile_rows + r] = u32::from(low) | u32::from(high) << 16;
                    }
                }
                to[steps * tile_rows + r] = scale.to_bits();
                // Codes are told from the least one on, which so counts for all of a row's inputs.
                to[(steps + 1) * tile_rows + r] =
                    if has_shifts { (scale * sum).to_bits() } else { (least * sum as i32).cast_unsigned() };
            }
        }
    }
}

/// A group's integers.
struct Rounded<const N: usize> {
    /// As numbers in whose lower bits they are.
    whole: [f32; N],
    /// What they count: NaN where any input is no number or infinite, so that its row's results are.
    scale: f32,
    /// Their sum.
    sum: f32,
}

/// The integers of at most `all` nearest to a group.
#[inline(always)]
fn rounded<S: Simd, const N: usize>(s: S, x: &[f32; N], all: f32) -> Rounded<N> {
    let zero = s.splat(0.0);
    let (mut most, mut poison) = (zero, zero);
    for x in x.chunks_exact(S::LANES) {
        let x = s.load(x);
        most = s.max(s.max(x, s.sub(zero, x)), most);
        poison = s.add(poison, s.mul(x, zero));
    }
    let most = s.greatest(most);
    let (inverse, scale) = if most > LEAST { (all / most, most / all) } else { (0.0, 0.0) };
    // Adding what has no bits behind the point rounds to the nearest whole number, ties to even, and leaves it in the lower bits.
    let above = s.splat(12_582_912.0); // 1.5 · 2^23
    let (mut whole, mut sum) = ([0.0; N], zero);
    for (x, whole) in x.chunks_exact(S::LANES).zip(whole.chunks_exact_mut(S::LANES)) {
        let v = s.add(s.mul(s.load(x), s.splat(inverse)), above);
        sum = s.add(sum, s.sub(v, above));
        s.store(whole, v);
    }
    Rounded { whole, scale: scale + s.sum(poison), sum: s.sum(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    const MOST: f32 = 16_383.0;

    struct Group<'a, const N: usize>(&'a [f32; N]);

    impl<const N: usize> Body for Group<'_, N> {
        type Output = Rounded<N>;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Rounded<N> {
            super::rounded(s, self.0, MOST)
        }
    }

    fn rounded<const N: usize>(isa: Isa, x: &[f32; N]) -> ([i16; N], f32) {
        let Rounded { whole, scale, sum } = vectorize(isa, Group(x));
        let codes = whole.map(|whole| whole.to_bits() as i16);
        if scale.is_finite() {
            assert_eq!(sum, codes.iter().map(|&code| f32::from(code)).sum::<f32>(), "{isa:?}");
        }
        (codes, scale)
    }

    #[test]
    fn an_input_becomes_the_nearest_of_its_groups_integers() {
        let x: [f32; GROUP] = std::array::from_fn(|i| ((i * 37 % 32) as f32 - 15.5) * 0.37);
        for isa in Isa::available() {
            let (codes, scale) = rounded(isa, &x);
            let most = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            assert_eq!(scale, most / MOST);
            for (x, code) in x.iter().zip(codes) {
                assert!((f64::from(*x) / f64::from(scale) - f64::from(code)).abs() < 0.501, "{isa:?}: {x} as {code}");
            }
            assert_eq!(codes.iter().map(|code| code.unsigned_abs()).max(), Some(MOST as u16));
        }
    }

    #[test]
    fn ties_go_to_the_even_integer() {
        let mut x = [0.0; HALF_GROUP];
        x[..5].copy_from_slice(&[MOST, 0.5, 1.5, -2.5, -3.5]);
        for isa in Isa::available() {
            assert_eq!(rounded(isa, &x).0[..5], [MOST as i16, 0, 2, -2, -4]);
        }
    }

    #[test]
    fn zeros_are_zeros_and_what_is_no_number_is_told_by_the_scale() {
        for isa in Isa::available() {
            assert_eq!(rounded(isa, &[0.0; GROUP]), ([0; GROUP], 0.0));
            assert_eq!(rounded(isa, &[1e-31; GROUP]).1, 0.0);
            assert!(rounded(isa, &[2e-30; GROUP]).1 > 0.0);
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 7, 31] {
                    let mut x = [1.0; GROUP];
                    x[at] = wrong;
                    assert!(rounded(isa, &x).1.is_nan(), "{isa:?}: {wrong} at {at}");
                }
            }
            let greatest = rounded(isa, &[f32::MAX; GROUP]);
            assert!(greatest.1.is_finite() && greatest.0 == [MOST as i16; GROUP]);
        }
    }
}
