//! Inputs as integers, in the order in which tiles read them.

use crate::{
    aligned::Aligned,
    epilogue::Rows,
    integers::{Factors, GROUP, joined},
    isa::Isa,
    packed::each_panel,
    simd::{Body, Simd, vectorize},
    size::product,
    vector::{tile_rows, tile_rows_of},
};

/// What is too small to have a scale: the whole group counts as 0. Nothing that a model is made of comes near it.
const LEAST: f32 = 1e-30;

/// Rows of words that a group of a tile takes: its steps, its rows' scales, and the sums of what the rows' integers stand for.
const fn group_rows(factors: Factors) -> usize {
    factors.group_steps() + 2
}

/// All rows, tile after tile, and in a tile group after group; missing rows are 0.
pub(super) struct Inputs {
    words: Aligned<u32>,
    /// Words of a group.
    record: usize,
    groups: usize,
}

impl Inputs {
    pub(super) fn of(isa: Isa, factors: Factors, input: Rows) -> Self {
        let tile_rows = tile_rows_of(isa);
        let (record, groups) = (group_rows(factors) * tile_rows, input.d_in / GROUP);
        let size = product("inputs of a tile", [record, groups]);
        let words = each_panel(input.rows.div_ceil(tile_rows), size, |tile, to| {
            vectorize(isa, Tile { factors, input, first: tile * tile_rows, to });
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
    input: Rows<'a>,
    first: usize,
    to: &'a mut [u32],
}

impl Body for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { factors, input, first, to } = self;
        let tile_rows = tile_rows::<S>();
        let (steps, most) = (factors.group_steps(), f32::from(factors.most_input()));
        for r in 0..tile_rows.min(input.rows - first) {
            let x = input.row(first + r).as_chunks::<GROUP>().0;
            for (x, to) in x.iter().zip(to.chunks_exact_mut(group_rows(factors) * tile_rows)) {
                let (codes, scale) = rounded(x, most);
                match factors {
                    Factors::Words => {
                        for (step, pair) in codes.as_chunks().0.iter().enumerate() {
                            to[step * tile_rows + r] = joined(*pair);
                        }
                    }
                    Factors::Bytes { .. } => {
                        for (step, four) in codes.as_chunks().0.iter().enumerate() {
                            let &[a, b, c, d]: &[i16; 4] = four;
                            to[step * tile_rows + r] = u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]);
                        }
                    }
                }
                let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
                to[steps * tile_rows + r] = scale.to_bits();
                to[(steps + 1) * tile_rows + r] = (scale * sum as f32).to_bits();
            }
        }
    }
}

/// The integers of at most `all` nearest to a group, and what they count: NaN where any input is no number or infinite, so that its row's results are.
#[inline(always)]
fn rounded(x: &[f32; GROUP], all: f32) -> ([i16; GROUP], f32) {
    let mut most = [0.0f32; 8];
    let mut poison = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for i in 0..8 {
            let magnitude = x[i].abs();
            most[i] = if magnitude > most[i] { magnitude } else { most[i] };
            poison[i] += x[i] * 0.0;
        }
    }
    let most = most.into_iter().fold(0.0, f32::max);
    let poison: f32 = poison.into_iter().sum();
    let (inverse, scale) = if most > LEAST { (all / most, most / all) } else { (0.0, 0.0) };
    // Adding what has no bits behind the point rounds to the nearest whole number, ties to even, and leaves it in the lower bits.
    const WHOLE: f32 = 12_582_912.0; // 1.5 · 2^23
    let codes = std::array::from_fn(|i| (x[i] * inverse + WHOLE).to_bits() as i16);
    (codes, scale + poison)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: f32 = 16_383.0;

    #[test]
    fn an_input_becomes_the_nearest_of_its_groups_integers() {
        let x: [f32; GROUP] = std::array::from_fn(|i| ((i * 37 % 32) as f32 - 15.5) * 0.37);
        let (codes, scale) = rounded(&x, MOST);
        let most = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        assert_eq!(scale, most / MOST);
        for (x, code) in x.iter().zip(codes) {
            assert!((f64::from(*x) / f64::from(scale) - f64::from(code)).abs() < 0.501, "{x} as {code}");
        }
        assert_eq!(codes.iter().map(|code| code.unsigned_abs()).max(), Some(MOST as u16));
    }

    #[test]
    fn ties_go_to_the_even_integer() {
        let mut x = [0.0; GROUP];
        x[..5].copy_from_slice(&[MOST, 0.5, 1.5, -2.5, -3.5]);
        assert_eq!(rounded(&x, MOST).0[..5], [MOST as i16, 0, 2, -2, -4]);
    }

    #[test]
    fn zeros_are_zeros_and_what_is_no_number_is_told_by_the_scale() {
        assert_eq!(rounded(&[0.0; GROUP], MOST), ([0; GROUP], 0.0));
        assert_eq!(rounded(&[1e-31; GROUP], MOST).1, 0.0);
        assert!(rounded(&[2e-30; GROUP], MOST).1 > 0.0);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 31] {
                let mut x = [1.0; GROUP];
                x[at] = wrong;
                assert!(rounded(&x, MOST).1.is_nan(), "{wrong} at {at}");
            }
        }
        let greatest = rounded(&[f32::MAX; GROUP], MOST);
        assert!(greatest.1.is_finite() && greatest.0 == [MOST as i16; GROUP]);
    }
}
