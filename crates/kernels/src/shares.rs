//! How the work of a product is divided among threads.

use std::ops::Range;

/// The `i`-th of `parts` nearly equal parts of `0..n`.
pub(crate) fn part(n: usize, i: usize, parts: usize) -> Range<usize> {
    // At most `n`; the product before may need twice the bits.
    let start = |i: usize| (i as u128 * n as u128 / parts as u128) as usize;
    start(i)..start(i + 1)
}

/// Where `parts` nearly equal parts of some tiles begin and the last one ends, among rows or columns that end at `end`: tiles have `side` of
/// them, the last one what is left.
pub(crate) fn even_cuts(tiles: Range<usize>, parts: usize, side: usize, end: usize) -> Vec<usize> {
    let start = |i| (tiles.start + part(tiles.len(), i, parts).start) * side;
    (0..parts).map(start).chain([tiles.end.saturating_mul(side).min(end)]).collect()
}

/// How many of a product's panels are made at a time: so many, and up to `most` where that gives each thread as many.
pub(crate) fn at_once(panels: usize, most: usize) -> usize {
    panels.next_multiple_of(rayon::current_num_threads()).min(most)
}

/// Where a product's tasks cut its rows, in tiles of `tile` of them, and the columns of some of its panels, which have `width` of them and end
/// at `end`: with at most `most` rows and panels in a task, so that the pool's threads are done soonest.
pub(crate) fn tasks(
    (rows, tile): (usize, usize),
    (panels, width, end): (Range<usize>, usize, usize),
    most: [usize; 2],
) -> [Vec<usize>; 2] {
    let tiles = rows.div_ceil(tile);
    let parts = split([tiles, panels.len()], [most[0] / tile, most[1]], rayon::current_num_threads());
    [even_cuts(0..tiles, parts[0], tile, rows), even_cuts(panels, parts[1], width, end)]
}

/// How many more parts than there have to be are tried.
const MORE: usize = 16;

/// Into how many parts tiles of rows and panels are cut, of at most `most` of each, so that `threads` threads are done soonest.
///
/// A task of `t` tiles and `p` panels is taken to last as long as `(t + 1) · (p + 1)` products of one with the other: it also rearranges its
/// rows, which takes about as long as a panel, and brings its panels into its caches.
fn split([tiles, panels]: [usize; 2], most: [usize; 2], threads: usize) -> [usize; 2] {
    let [fewest_rows, fewest_columns] =
        [(tiles, most[0]), (panels, most[1])].map(|(all, most)| all.div_ceil(most).max(1));
    let time = |&[rows, columns]: &[usize; 2]| {
        let rounds = rows.saturating_mul(columns).div_ceil(threads);
        rounds.saturating_mul(tiles.div_ceil(rows) + 1).saturating_mul(panels.div_ceil(columns) + 1)
    };
    // More are as good as some of these.
    let more = threads.min(MORE);
    let rows = fewest_rows..=(fewest_rows + more).min(tiles.max(1));
    rows.flat_map(|rows| {
        (fewest_columns..=(fewest_columns + 2 * more).min(panels.max(1))).map(move |columns| [rows, columns])
    })
    .min_by_key(time)
    .unwrap_or([fewest_rows, fewest_columns])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles and panels of the busiest thread where each takes the next task when it is done with one.
    fn busiest([tiles, panels]: [usize; 2], most: [usize; 2], threads: usize) -> usize {
        let [rows, columns] = split([tiles, panels], most, threads);
        assert!(tiles.div_ceil(rows) <= most[0] && panels.div_ceil(columns) <= most[1], "{rows} {columns}");
        let mut work = vec![0; threads];
        for (i, j) in (0..rows * columns).map(|task| (task / columns, task % columns)) {
            let least = work.iter_mut().min().unwrap();
            *least += part(tiles, i, rows).len() * part(panels, j, columns).len();
        }
        work.into_iter().max().unwrap()
    }

    #[test]
    fn threads_are_done_at_about_the_same_time() {
        // given 512, 1,024 and 1,536 rows in tiles of 14, and a few panels, as are made at a time, or those of a whole matrix
        for (tiles, panels) in [37, 74, 110].into_iter().flat_map(|tiles| [24, 48, 96].map(|panels| (tiles, panels))) {
            for threads in [1, 2, 3, 4, 8, 16] {
                // then no thread has much more than its share
                let (found, share) = (busiest([tiles, panels], [12, 24], threads), tiles * panels / threads);
                assert!(found * 100 <= share * 120, "{tiles} x {panels} on {threads}: {found} of {share}");
            }
        }
    }

    #[test]
    fn a_part_is_never_larger_than_it_may_be_nor_are_there_more_than_tiles() {
        for tiles in [0, 1, 2, 13, 1000] {
            for panels in [0, 1, 7, 300] {
                for threads in [1, 2, 64] {
                    busiest([tiles, panels], [12, 24], threads);
                    let [rows, columns] = split([tiles, panels], [12, 24], threads);
                    assert!(rows <= tiles.max(1) && columns <= panels.max(1));
                }
            }
        }
    }

    #[test]
    fn cuts_are_whole_tiles_but_for_the_last() {
        assert_eq!(even_cuts(0..5, 2, 10, 47), [0, 20, 47]);
        assert_eq!(even_cuts(3..5, 2, 10, 47), [30, 40, 47]);
        assert_eq!(even_cuts(3..4, 1, 10, 47), [30, 40]);
        assert_eq!(part(usize::MAX, 1, 2), usize::MAX / 2..usize::MAX);
    }
}
