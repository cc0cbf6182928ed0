//! Pictures too large to be made larger at once, in overlapping tiles.
//!
//! What a network makes of a tile's border is off, as it sees nothing beyond, and the less so the further inside: how far that reaches is the
//! network's to say. In the middle of an overlap one tile fades into the next along `3t² - 2t³`; nearer to its border than that a tile
//! counts for nothing.

use std::ops::Range;

use core_tensor::{Device, Tensor, into_host, tensor};
use diffusion_engine::Error;

/// Which tiles a picture is cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

/// Bytes for each pixel of a picture before it is made larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// What a tile takes while it is computed, beside what each thread of a kernel packs.
    pub tile: u64,
    /// What the result takes while the tiles are put together.
    pub result: u64,
}

impl Cost {
    /// Of so many values for each pixel, of which the picture becomes `factor` times as wide and high.
    pub(crate) fn of_values(values: u64, factor: usize) -> Self {
        let result = 3 * 4 * (factor * factor) as u64;
        // What becomes of a tile is copied once.
        Self { tile: values.saturating_mul(4).max(2 * result), result }
    }
}

/// How a network's tiles must lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie {
    /// Tiles begin at multiples of so many pixels.
    pub square: usize,
    /// From how far inside a tile its pixels are those of the whole picture, or nearly.
    pub context: usize,
}

impl Lie {
    /// Pixels that neighbours share at least.
    fn overlap(self) -> usize {
        2 * self.context + FADE
    }
}

/// Pixels in the middle of an overlap along which one tile fades into the next.
const FADE: usize = 16;

/// How often the context is halved where no tile fits.
const HALVINGS: u32 = 2;

impl Tiles {
    /// One tile.
    pub fn whole([height, width]: [usize; 2]) -> Self {
        let lie = Lie { square: 1, context: 0 };
        Self { rows: spread(height, 1, lie), columns: spread(width, 1, lie) }
    }

    /// For a picture of this height and width: one tile if `budget` bytes are enough for it, otherwise those equally large tiles that fit
    /// with the fewest pixels in all. Where none fits, tiles share less of what they should, down to a quarter; and then it is the smallest
    /// that there are, of which [`Tiles::bytes`] says what they take.
    pub fn of(size: [usize; 2], lie: Lie, budget: u64, cost: Cost) -> Self {
        let whole = Self::whole(size);
        if whole.bytes(cost) <= budget {
            return whole;
        }
        let less = |halvings: u32| Lie { context: lie.context >> halvings, ..lie };
        let fitting = (0..=HALVINGS).find_map(|halvings| Self::fitting(size, less(halvings), budget, cost));
        fitting.unwrap_or_else(|| {
            let lie = less(HALVINGS);
            let [rows, columns] = size.map(|side| spread(side, most_tiles(side, lie), lie));
            Self { rows, columns }
        })
    }

    /// Those of the tiles that lie so and fit that have the fewest pixels in all.
    fn fitting([height, width]: [usize; 2], lie: Lie, budget: u64, cost: Cost) -> Option<Self> {
        let all = (height as u64).saturating_mul(width as u64).saturating_mul(cost.result);
        let pixels = |[rows, columns]: [usize; 2]| {
            let of = |side, tiles| length(side, tiles, lie) as u64;
            of(height, rows).saturating_mul(of(width, columns))
        };
        let fits = |tiles: &[usize; 2]| pixels(*tiles).saturating_mul(cost.tile).saturating_add(all) <= budget;
        let [most_rows, most_columns] = [height, width].map(|side| most_tiles(side, lie));
        let cuts = (1..=most_rows).flat_map(|rows| (1..=most_columns).map(move |columns| [rows, columns]));
        let count = |[rows, columns]: [usize; 2]| (rows * columns) as u64;
        let best = cuts.filter(fits).min_by_key(|tiles| (pixels(*tiles).saturating_mul(count(*tiles)), count(*tiles)));
        best.map(|[rows, columns]| Self { rows: spread(height, rows, lie), columns: spread(width, columns, lie) })
    }

    /// Height and width of the picture.
    pub fn size(&self) -> [usize; 2] {
        [&self.rows, &self.columns].map(|ranges| ranges.last().map_or(0, |last| last.end))
    }

    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// What computing the tiles one after the other takes at most.
    pub fn bytes(&self, cost: Cost) -> u64 {
        let longest = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).max().unwrap_or(0) as u64;
        let tile = longest(&self.rows).saturating_mul(longest(&self.columns)).saturating_mul(cost.tile);
        let [height, width] = self.size().map(|side| side as u64);
        let all = height.saturating_mul(width).saturating_mul(cost.result);
        if self.count() == 1 { tile } else { tile.saturating_add(all) }
    }

    /// Computes each tile of `[1, 3, h, w]`, and puts together what becomes of them, `factor` times as wide and high.
    pub(crate) fn assemble(
        &self,
        x: &Tensor<4>,
        factor: usize,
        tile: impl Fn(Tensor<4>) -> Result<Tensor<4>, Error>,
    ) -> Result<Tensor<4>, Error> {
        if self.count() == 1 {
            return tile(x.clone());
        }
        let [height, width] = self.size().map(|side| side * factor);
        let mut picture = vec![0.0; 3 * height * width];
        for (rows, across) in shares(&self.rows, factor) {
            for (columns, along) in shares(&self.columns, factor) {
                let part = x.clone().narrow(2, rows.start, rows.len()).narrow(3, columns.start, columns.len());
                let part = into_host(tile(part)?)?; // 1 3 (rows · factor) (columns · factor)
                let (tile_height, tile_width) = (rows.len() * factor, columns.len() * factor);
                for (i, row) in part.chunks_exact(tile_width).enumerate() {
                    let (channel, y) = (i / tile_height, i % tile_height);
                    let place = (channel * height + rows.start * factor + y) * width + columns.start * factor;
                    let to = &mut picture[place..place + tile_width];
                    if across[y] > 0.0 {
                        to.iter_mut().zip(row).zip(&along).for_each(|((to, v), share)| *to += v * (across[y] * share));
                    }
                }
            }
        }
        Ok(tensor(picture, [1, 3, height, width], &Device::flex()).to_device(&x.device()))
    }
}

/// The most tiles that a side is cut into: no place is in three of them.
fn most_tiles(side: usize, lie: Lie) -> usize {
    let (side, overlap) = (side.div_ceil(lie.square), lie.overlap().div_ceil(lie.square));
    (side.saturating_sub(overlap) / overlap).max(1)
}

/// How long equal ranges are over a side, where there are so many, in pixels.
fn length(side: usize, tiles: usize, lie: Lie) -> usize {
    (units(side, tiles, lie) * lie.square).min(side)
}

/// The same in squares.
fn units(side: usize, tiles: usize, lie: Lie) -> usize {
    let all = side.div_ceil(lie.square);
    (all + (tiles - 1) * lie.overlap().div_ceil(lie.square)).div_ceil(tiles).min(all)
}

/// Equally long ranges over a side, as short as they can be for so many; the last may be shorter by part of a square.
fn spread(side: usize, tiles: usize, lie: Lie) -> Vec<Range<usize>> {
    let (all, length, square) = (side.div_ceil(lie.square), units(side, tiles, lie), lie.square);
    let start = |i: usize| (i * (all - length)).checked_div(tiles - 1).unwrap_or(0);
    (0..tiles).map(|i| start(i) * square..((start(i) + length) * square).min(side)).collect()
}

/// Each range, and what each of its pixels counts for once it is `factor` as many; over all ranges that is one for every pixel.
fn shares(ranges: &[Range<usize>], factor: usize) -> Vec<(Range<usize>, Vec<f32>)> {
    // How far a pixel is into a range: from 0 to 1 in the middle of what it shares with the one before.
    let into = |i: usize, pixel: usize| match i.checked_sub(1) {
        None => 1.0,
        Some(_) if i == ranges.len() => 0.0,
        Some(before) => {
            let shared = ranges[i].start..ranges[before].end;
            let (middle, fade) = ((shared.start + shared.end) as f64 / 2.0, FADE.min(shared.len()) as f64);
            let t = ((pixel as f64 + 0.5) / factor as f64 - (middle - fade / 2.0)) / fade.max(f64::MIN_POSITIVE);
            let t = t.clamp(0.0, 1.0);
            t * t * (3.0 - 2.0 * t)
        }
    };
    let of = |(i, range): (usize, &Range<usize>)| {
        let pixels = range.start * factor..range.end * factor;
        (range.clone(), pixels.map(|pixel| (into(i, pixel) - into(i + 1, pixel)) as f32).collect())
    };
    ranges.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use core_tensor::values;

    use super::*;

    const COST: Cost = Cost { tile: 1000, result: 10 };
    const LIE: Lie = Lie { square: 1, context: 16 };

    #[test]
    fn any_picture_under_any_budget_is_covered_by_tiles_that_overlap_begin_at_squares_and_fit_where_any_do() {
        for size in [[1, 1], [47, 2000], [96, 96], [144, 145], [192, 512], [1023, 17], [4096, 4099]] {
            for square in [1, 2, 4] {
                let lie = Lie { square, context: 16 };
                let smallest = Tiles::of(size, lie, 0, COST);
                for budget in [1 << 40, 1 << 28, 1 << 26, 1 << 25, 1 << 24, 0] {
                    let tiles = Tiles::of(size, lie, budget, COST);
                    assert_eq!(tiles.size(), size);
                    for ranges in [&tiles.rows, &tiles.columns] {
                        assert!(ranges[0].start == 0 && ranges.iter().all(|r| r.start % square == 0 && !r.is_empty()));
                        let shared = |pair: &[Range<usize>]| pair[0].end - pair[1].start;
                        // A quarter of the context at least, and what fades.
                        assert!(ranges.windows(2).all(|pair| shared(pair) >= 24 - square), "{size:?} {ranges:?}");
                        // A place is in two tiles at most, but for what rounding to squares takes.
                        assert!(ranges.windows(3).all(|three| three[2].start + square >= three[0].end), "{ranges:?}");
                    }
                    assert!(tiles.bytes(COST) <= budget || tiles == smallest, "{size:?} {budget} {tiles:?}");
                    for (ranges, side) in [(&tiles.rows, size[0]), (&tiles.columns, size[1])] {
                        let mut sums = vec![0.0; side * 3];
                        for (range, shares) in shares(ranges, 3) {
                            let to = &mut sums[range.start * 3..range.end * 3];
                            to.iter_mut().zip(shares).for_each(|(to, share)| *to += f64::from(share));
                        }
                        assert!(sums.iter().all(|sum| (sum - 1.0f64).abs() < 1e-6), "{size:?} {ranges:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn less_memory_never_makes_larger_tiles() {
        let bytes = |budget| Tiles::of([3000, 2000], LIE, budget, COST).bytes(COST);
        let all: Vec<u64> = (20..40).map(|power| bytes(1 << power)).collect();
        assert!(all.is_sorted(), "{all:?}");
    }

    #[test]
    fn neighbours_share_their_contexts_where_that_fits_and_less_where_it_does_not() {
        let lie = Lie { square: 1, context: 40 };
        let shared = |budget| {
            let tiles = Tiles::of([1000, 50], lie, budget, COST);
            (tiles.rows.windows(2)).map(|pair| pair[0].end - pair[1].start).min().unwrap()
        };
        assert!(shared(20_000_000) >= 96);
        // Tiles of 192 pixels are the shortest that share 96, and of 112 those that share 56.
        assert!((56..96).contains(&shared(150 * 50 * 1000)));
        assert!((36..56).contains(&shared(0)));
    }

    #[test]
    fn what_each_tile_makes_of_its_pixels_alone_is_put_together_without_a_trace() {
        let [height, width] = [150, 200];
        let pixels = (0..3 * height * width).map(|i| (i as f32 * 0.37).sin()).collect();
        let x = tensor(pixels, [1, 3, height, width], &Device::flex());
        let tiles = Tiles::of([height, width], LIE, 0, COST);
        assert!(tiles.count() > 1);
        let same = tiles.assemble(&x, 1, Ok).unwrap();
        assert!(values(&same).iter().zip(values(&x)).all(|(found, expected)| (found - expected).abs() < 1e-6));
    }
}
