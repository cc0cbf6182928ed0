//! Pictures of features as windows of tokens, which pay attention to one another.

use std::ops::Range;

use core_tensor::{Device, Tensor, tensor};

/// What is added to the score of a pair that must not see each other; not an infinity, as in what these networks were trained with.
const HIDDEN: f32 = -100.0; // models/network_swinir.py, `calculate_mask`

/// Where windows lie on a picture whose sides are multiples of theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Height and width of the picture.
    pub(crate) size: [usize; 2],
    /// Pixels of a window's side.
    pub(crate) side: usize,
    /// How far they are moved down and to the right; what is beyond the picture then is at its other end.
    pub(crate) shift: usize,
}

/// What hides pairs in windows of the last column, of the last row, and of both, each `[1, 1, tokens, tokens]`.
#[derive(Debug)]
pub(crate) struct Masks {
    column: Tensor<4>,
    row: Tensor<4>,
    corner: Tensor<4>,
}

impl Windows {
    /// Tokens of a window.
    pub(crate) fn tokens(self) -> usize {
        self.side * self.side
    }

    /// How many there are from top to bottom.
    pub(crate) fn rows(self) -> usize {
        self.size[0] / self.side
    }

    /// How many there are from left to right.
    pub(crate) fn columns(self) -> usize {
        self.size[1] / self.side
    }

    /// The picture `[h, w, c]` moved, so that windows lie as if they weren't.
    pub(crate) fn moved(self, x: Tensor<3>) -> Tensor<3> {
        turned(turned(x, 0, self.shift), 1, self.shift)
    }

    /// The other way.
    pub(crate) fn moved_back(self, x: Tensor<3>) -> Tensor<3> {
        let [height, width] = self.size;
        turned(turned(x, 0, height - self.shift), 1, width - self.shift)
    }

    /// Some windows of a row of them: `[h, w, c]` to `[windows, tokens, c]`.
    pub(crate) fn cut(self, x: &Tensor<3>, row: usize, columns: Range<usize>) -> Tensor<3> {
        let ([_, _, c], side, count) = (x.dims(), self.side, columns.len());
        let x = x.clone().narrow(0, row * side, side).narrow(1, columns.start * side, count * side);
        x.reshape([side, count, side, c]).permute([1, 0, 2, 3]).reshape([count, self.tokens(), c])
    }

    /// The other way, of a whole row: `[windows, tokens, c]` to `[side, w, c]`.
    pub(crate) fn joined(self, x: Tensor<3>) -> Tensor<3> {
        let ([count, _, c], side) = (x.dims(), self.side);
        x.reshape([count, side, side, c]).permute([1, 0, 2, 3]).reshape([side, count * side, c])
    }

    /// What hides the pairs that are neighbours only because the picture was moved; none where it was not.
    pub(crate) fn masks(self, device: &Device) -> Option<Masks> {
        let (side, tokens) = (self.side, self.tokens());
        // Of the last window that much is from the picture's other end.
        let is_far = |place: usize| place >= side - self.shift;
        let mask = |is_last_row: bool, is_last_column: bool| {
            let part = |token: usize| (is_last_row && is_far(token / side), is_last_column && is_far(token % side));
            let pairs = (0..tokens).flat_map(|one| (0..tokens).map(move |other| (one, other)));
            let values = pairs.map(|(one, other)| if part(one) == part(other) { 0.0 } else { HIDDEN });
            tensor(values.collect(), [1, 1, tokens, tokens], device)
        };
        let masks = || Masks { column: mask(false, true), row: mask(true, false), corner: mask(true, true) };
        (self.shift > 0).then(masks)
    }
}

impl Masks {
    /// Of some windows of a row of them, `[windows, 1, tokens, tokens]`; none where nothing is hidden.
    pub(crate) fn of(&self, windows: Windows, row: usize, columns: Range<usize>) -> Option<Tensor<4>> {
        let (count, tokens) = (columns.len(), windows.tokens());
        let has_last_column = columns.end == windows.columns();
        let (others, last) = match (row + 1 == windows.rows(), has_last_column) {
            (false, false) => return None,
            (false, true) => (self.column.zeros_like(), &self.column),
            (true, false) => (self.row.clone(), &self.row),
            (true, true) => (self.row.clone(), &self.corner),
        };
        Some(match count {
            1 => last.clone(),
            count => Tensor::cat(vec![others.expand([count - 1, 1, tokens, tokens]), last.clone()], 0),
        })
    }
}

/// What is `by` places in comes first, and what was before it last.
fn turned(x: Tensor<3>, dim: usize, by: usize) -> Tensor<3> {
    let all = x.dims()[dim];
    match by % all {
        0 => x,
        by => Tensor::cat(vec![x.clone().narrow(dim, by, all - by), x.narrow(dim, 0, by)], dim),
    }
}

/// The bias of each pair of a window's tokens, `[1, heads, tokens, tokens]`, by how far one is from the other: a table has a row for each
/// distance, `[(2 · side - 1)², heads]`, down before right.
pub(crate) fn biases(table: &[f32], side: usize, heads: usize, device: &Device) -> Tensor<4> {
    let tokens = side * side;
    let row = |one: usize, other: usize| {
        let apart = |one: usize, other: usize| one + side - 1 - other;
        apart(one / side, other / side) * (2 * side - 1) + apart(one % side, other % side)
    };
    let pairs = |head: usize| {
        let of = move |one: usize| (0..tokens).map(move |other| table[row(one, other) * heads + head]);
        (0..tokens).flat_map(of)
    };
    tensor((0..heads).flat_map(pairs).collect(), [1, heads, tokens, tokens], device)
}

#[cfg(test)]
mod tests {
    use core_tensor::values;

    use super::*;

    #[test]
    fn windows_that_were_cut_are_joined_to_the_picture_again() {
        let x = tensor((0..8 * 12 * 2).map(|i| i as f32).collect(), [8, 12, 2], &Device::flex());
        for shift in [0, 2] {
            let windows = Windows { size: [8, 12], side: 4, shift };
            let moved = windows.moved(x.clone());
            let rows = (0..windows.rows()).map(|row| windows.joined(windows.cut(&moved, row, 0..windows.columns())));
            let back = windows.moved_back(Tensor::cat(rows.collect(), 0));
            assert_eq!(values(&back), values(&x));
            assert!(shift == 0 || values(&moved) != values(&x));
        }
    }

    #[test]
    fn only_what_the_move_made_neighbours_is_hidden() {
        let windows = Windows { size: [4, 4], side: 2, shift: 1 };
        let masks = windows.masks(&Device::flex()).unwrap();
        let hidden = |row, column: usize| {
            let mask = masks.of(windows, row, column..column + 1);
            mask.map_or(0, |mask| values(&mask).iter().filter(|value| **value != 0.0).count())
        };
        // Halves hide eight of sixteen pairs, and quarters all but each with itself.
        assert_eq!([hidden(0, 0), hidden(0, 1), hidden(1, 0), hidden(1, 1)], [0, 8, 8, 12]);
        for row in 0..2 {
            let both = masks.of(windows, row, 0..2).map(|mask| values(&mask)).unwrap();
            let alone = |column| masks.of(windows, row, column..column + 1).map_or(vec![0.0; 16], |mask| values(&mask));
            assert_eq!(both, [alone(0), alone(1)].concat());
        }
        assert!(Windows { shift: 0, ..windows }.masks(&Device::flex()).is_none());
    }
}
