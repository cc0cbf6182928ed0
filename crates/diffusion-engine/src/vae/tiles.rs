//! Pictures too large to decode or encode at once, in overlapping tiles.
//!
//! Neighbours are blended along the whole of their overlap: its pixel `i` of `n` is `(1 - i / n) · first + i / n · second`, as in
//! diffusers' `blend_h` and `blend_v`. Tiles of a row are put together first and rows then, so that where four tiles meet their
//! weights are the products of both directions'; diffusers blends downwards first, which leaves a step there. A tile's norms and
//! attention see that tile alone, so tiles are as large as the budget allows, and equally large.

use std::ops::Range;

use core_tensor::{Device, Tensor, largest_tensor, tensor};

use crate::Error;

/// Which tiles a latent is cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TilePlan {
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

/// Bytes for each pixel of a latent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileCost {
    /// What a tile takes while it is computed, beside what each thread of a kernel packs (about a mebibyte).
    pub working: u64,
    /// What the results of all tiles take while they are put together.
    pub result: u64,
}

/// What the maps of an autoencoder take at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maps {
    /// Bytes; weights are not counted, nor is the picture.
    pub bytes: u64,
    /// In how many tiles they are computed.
    pub tiles: usize,
}

impl TileCost {
    /// How often the results of tiles are held while they are put together: as tiles, rows of them, and the whole, with what overlaps.
    pub(super) const COPIES: u64 = 4;
}

/// Latent pixels that neighbours share at least.
const OVERLAP: usize = 16; // diffusers autoencoder_kl.py: a quarter of 64

/// The shortest side of a tile, but for a latent that is shorter.
const LEAST_SIDE: usize = 2 * OVERLAP;

impl TilePlan {
    /// One tile.
    pub fn whole([height, width]: [usize; 2]) -> Self {
        Self { rows: spread(height, 1), columns: spread(width, 1) }
    }

    /// Tiles of these rows and columns, every row with every column. `None` unless each list begins with 0, and each range begins
    /// and ends within or right behind the one before it.
    pub fn new(rows: Vec<Range<usize>>, columns: Vec<Range<usize>>) -> Option<Self> {
        let follows = |pair: &[Range<usize>]| {
            pair[0].start < pair[1].start && pair[1].start <= pair[0].end && pair[0].end <= pair[1].end
        };
        let covers = |ranges: &[Range<usize>]| {
            let begins = ranges.first().is_some_and(|first| first.start == 0);
            begins && ranges.iter().all(|range| !range.is_empty()) && ranges.windows(2).all(follows)
        };
        (covers(&rows) && covers(&columns)).then_some(Self { rows, columns })
    }

    /// For a latent of this height and width: one tile if `budget` bytes are enough for it, otherwise those equally large tiles
    /// that fit with the fewest pixels in all. Where none fits it is the smallest that there are, of which [`TilePlan::bytes`] says
    /// what they take.
    pub fn of([height, width]: [usize; 2], budget: u64, cost: TileCost) -> Self {
        let whole = Self::whole([height, width]);
        if whole.bytes(cost) <= budget {
            return whole;
        }
        let cuts = |side: usize| (1..=most_tiles(side)).map(move |tiles| spread(side, tiles));
        let plans = cuts(height)
            .flat_map(|rows| cuts(width).map(move |columns| Self { rows: rows.clone(), columns }))
            .filter(|plan| plan.bytes(cost) <= budget);
        let smallest = || Self { rows: spread(height, most_tiles(height)), columns: spread(width, most_tiles(width)) };
        plans.min_by_key(|plan| (plan.count() * plan.largest(), plan.count())).unwrap_or_else(smallest)
    }

    /// One tile if it has no map that is larger than a device takes, otherwise the fewest pixels in tiles of which none has. `widest` are the bytes of the
    /// largest map for each pixel.
    pub(super) fn for_device(latent: [usize; 2], widest: u64, device: &Device) -> Self {
        Self::of(latent, largest_tensor(device), TileCost { working: widest, result: 0 })
    }

    /// How a latent of this height and width is decoded: at once where there is `room` for it.
    pub(super) fn decoding(latent: [usize; 2], decoding: TileCost, room: Option<u64>) -> Self {
        Self::of(latent, room.unwrap_or(u64::MAX), decoding)
    }

    /// How a picture is encoded to a latent of this height and width: at once where there is `room` for it, and that takes no more than
    /// decoding it does.
    pub(super) fn encoding(latent: [usize; 2], decoding: TileCost, encoding: TileCost, room: Option<u64>) -> Self {
        Self::of(latent, Self::whole(latent).bytes(decoding).min(room.unwrap_or(u64::MAX)), encoding)
    }

    /// What computing the tiles one after the other takes.
    pub(super) fn maps(&self, cost: TileCost) -> Maps {
        Maps { bytes: self.bytes(cost), tiles: self.count() }
    }

    /// This plan or that, whose tiles are smaller.
    pub(super) fn smaller(self, other: Self) -> Self {
        if other.largest() < self.largest() { other } else { self }
    }

    /// Height and width of the latent.
    pub fn size(&self) -> [usize; 2] {
        [&self.rows, &self.columns].map(|ranges| ranges.last().map_or(0, |last| last.end))
    }

    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// What computing the tiles one after the other takes at most.
    pub fn bytes(&self, cost: TileCost) -> u64 {
        let [height, width] = self.size();
        let tile = (self.largest() as u64).saturating_mul(cost.working);
        let all = (height as u64).saturating_mul(width as u64).saturating_mul(cost.result);
        if self.count() == 1 { tile } else { tile.saturating_add(all) }
    }

    /// Pixels of the largest tile.
    pub(super) fn largest(&self) -> usize {
        let longest = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).max().unwrap_or(0);
        longest(&self.rows).saturating_mul(longest(&self.columns))
    }

    /// Computes each tile from its rows and columns, and puts them together; a latent's pixel has become `factor` in each direction.
    pub(super) fn assemble(
        &self,
        factor: usize,
        tile: impl Fn(&Range<usize>, &Range<usize>) -> Result<Tensor<4>, Error>,
    ) -> Result<Tensor<4>, Error> {
        let row = |rows| {
            join(&self.columns, 3, factor, |columns| tile(rows, columns)) // b c (h · factor) (w · factor)
        };
        join(&self.rows, 2, factor, row)
    }
}

/// The most tiles that a side is cut into.
fn most_tiles(side: usize) -> usize {
    (side.saturating_sub(OVERLAP) / (LEAST_SIDE - OVERLAP)).max(1)
}

/// Equally long ranges over a side, as short as they can be for so many.
fn spread(side: usize, tiles: usize) -> Vec<Range<usize>> {
    let gaps = tiles - 1;
    let length = (side + gaps * OVERLAP).div_ceil(tiles).min(side);
    let start = |i: usize| (i * (side - length)).checked_div(gaps).unwrap_or(0);
    (0..tiles).map(|i| start(i)..start(i) + length).collect()
}

/// What `part` makes of each range, blended into one along a dimension.
fn join<'r>(
    ranges: &'r [Range<usize>],
    dim: usize,
    factor: usize,
    part: impl Fn(&'r Range<usize>) -> Result<Tensor<4>, Error>,
) -> Result<Tensor<4>, Error> {
    let mut parts = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        let mut next = part(range)?;
        if let Some((before, last)) = i.checked_sub(1).and_then(|i| Some((&ranges[i], parts.pop()?))) {
            let (alone, shared) = ((range.start - before.start) * factor, (before.end - range.start) * factor);
            next = blend(last_of(&last, dim, shared), next, dim, shared);
            parts.push(last.narrow(dim, 0, alone));
        }
        parts.push(next);
    }
    Ok(Tensor::cat(parts, dim))
}

fn last_of(x: &Tensor<4>, dim: usize, count: usize) -> Option<Tensor<4>> {
    let start = x.dims()[dim] - count;
    (count > 0).then(|| x.clone().narrow(dim, start, count))
}

/// The second tile with its beginning, `shared` pixels, blended with the end of the first.
fn blend(end: Option<Tensor<4>>, second: Tensor<4>, dim: usize, shared: usize) -> Tensor<4> {
    let Some(end) = end else { return second };
    let mut shape = [1; 4];
    shape[dim] = shared;
    let ramp = (0..shared).map(|i| i as f32 / shared as f32).collect();
    let ramp = tensor(ramp, shape, &second.device());
    let blended = end * (ramp.clone().neg() + 1.0) + second.clone().narrow(dim, 0, shared) * ramp;
    match second.dims()[dim] - shared {
        0 => blended,
        rest => Tensor::cat(vec![blended, second.narrow(dim, shared, rest)], dim),
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, values};

    use super::*;

    const COST: TileCost = TileCost { working: 1000, result: 10 };

    #[test]
    fn what_fits_is_one_tile() {
        assert_eq!(TilePlan::of([40, 50], 2_000_000, COST), TilePlan::whole([40, 50]));
        assert_eq!(TilePlan::whole([40, 50]).bytes(COST), 2_000_000);
        assert!(TilePlan::of([40, 50], 1_999_999, COST).count() > 1);
    }

    #[test]
    fn any_latent_under_any_budget_is_covered_by_equal_tiles_that_overlap_and_fit_where_any_do() {
        for size in [[1, 1], [47, 2000], [48, 48], [64, 64], [65, 97], [128, 96], [333, 16], [512, 512]] {
            let mut last = usize::MAX;
            for budget in [1 << 40, 1 << 24, 1 << 22, 1 << 21, 1 << 20, 0] {
                let plan = TilePlan::of(size, budget, COST);
                assert_eq!(plan.size(), size);
                assert_eq!(TilePlan::new(plan.rows.clone(), plan.columns.clone()).as_ref(), Some(&plan));
                for (ranges, side) in [(&plan.rows, size[0]), (&plan.columns, size[1])] {
                    let length = ranges[0].len();
                    assert!(length >= LEAST_SIDE.min(side), "{size:?} {budget} {ranges:?}");
                    assert!(ranges.iter().all(|range| range.len() == length));
                    assert!(ranges.windows(2).all(|pair| pair[0].end - pair[1].start >= OVERLAP));
                }
                // Less memory never makes larger tiles.
                assert!(plan.largest() <= last);
                last = plan.largest();
                let smallest = TilePlan::of(size, 0, COST);
                assert!(plan.bytes(COST) <= budget || plan == smallest, "{size:?} {budget} {plan:?}");
            }
        }
    }

    #[test]
    fn ranges_with_a_gap_and_ranges_out_of_order_are_no_plan() {
        let is_plan = |rows: &[Range<usize>]| TilePlan::new(rows.to_vec(), spread(9, 1)).is_some();
        assert!(is_plan(&[0..8, 6..14, 12..20, 18..20]) && is_plan(&[0..4, 4..8]));
        for rows in [&[][..], &[1..4, 2..8], &[0..4, 5..8], &[0..4, 0..8], &[0..8, 2..6], &[0..0, 0..4]] {
            assert!(!is_plan(rows), "{rows:?}");
        }
    }

    #[test]
    fn neighbours_are_blended_evenly_and_four_by_both_directions() {
        // given four tiles of one value each, which overlap by two pixels of a latent, four of a picture
        let plan = TilePlan::new(vec![0..4, 2..6], vec![0..3, 1..5]).unwrap();
        let value = |rows: &Range<usize>, columns: &Range<usize>| [1.0, 10.0][rows.start / 2] + columns.start as f32;
        let picture = plan.assemble(2, |rows, columns| {
            let shape = [1, 1, 2 * rows.len(), 2 * columns.len()];
            Ok(Tensor::full(shape, value(rows, columns), &Device::flex()))
        });
        let picture = picture.unwrap();
        // then a pixel is what its place in both overlaps says
        assert_eq!(picture.dims(), [1, 1, 12, 10]);
        let place = |at: usize, start: usize| (at.saturating_sub(start) as f32 / 4.0).min(1.0);
        for (i, found) in values(&picture).into_iter().enumerate() {
            let (down, across) = (place(i / 10, 4), place(i % 10, 2));
            let expected = (1.0 - down) * 1.0 + down * 10.0 + across;
            assert!((found - expected).abs() < 1e-5, "{i}: {found} {expected}");
        }
    }
}
