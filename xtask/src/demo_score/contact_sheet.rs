//! All generated pictures on one sheet, in rows, as a photographer lays out prints.

use crate::image::{Image, mix};

const GAP: usize = 10;
const MARGIN: usize = 24;
const CORNER_RADIUS: f32 = 12.0;
const PAPER: [u8; 3] = [238, 237, 234];

/// Lays pictures of one size out in a near-square.
pub(super) fn lay_out(pictures: &[Image<3>]) -> Image<3> {
    let columns = (1..).find(|columns| columns * columns >= pictures.len()).expect("there are not that many pictures");
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = pictures.first().map_or((0, 0), |picture| (picture.width, picture.height));
    let side = |count: usize, length: usize| 2 * MARGIN + count * (length + GAP) - GAP;
    Image::paint(side(columns, width), side(rows, height), |x, y| {
        let picture = || {
            let (x, y) = (x.checked_sub(MARGIN)?, y.checked_sub(MARGIN)?);
            let (column, row) = (x / (width + GAP), y / (height + GAP));
            let (x, y) = (x % (width + GAP), y % (height + GAP));
            let picture =
                pictures.get(row * columns + column).filter(|_| column < columns && x < width && y < height)?;
            Some(mix(PAPER, picture.at(x, y), coverage(x, y, width, height)))
        };
        picture().unwrap_or(PAPER)
    })
}

/// How much of the pixel lies inside the picture's rounded corners, 0 to 1.
fn coverage(x: usize, y: usize, width: usize, height: usize) -> f32 {
    let past = |place: usize, length: usize| {
        let from_middle = (place as f32 + 0.5 - length as f32 / 2.0).abs();
        (from_middle - (length as f32 / 2.0 - CORNER_RADIUS)).max(0.0)
    };
    let distance = past(x, width).hypot(past(y, height));
    (CORNER_RADIUS + 0.5 - distance).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_on_paper() {
        let grey = |level| Image::paint(128, 128, move |_, _| [level; 3]);
        let sheet = lay_out(&[grey(10), grey(20), grey(30)]);
        assert_eq!((sheet.width, sheet.height), (314, 314));
        let middle_of = |column: usize, row: usize| sheet.at(MARGIN + column * 138 + 64, MARGIN + row * 138 + 64);
        assert_eq!([middle_of(0, 0), middle_of(1, 0), middle_of(0, 1)], [[10; 3], [20; 3], [30; 3]]);
        assert_eq!([middle_of(1, 1), sheet.at(MARGIN, MARGIN), sheet.at(0, 0)], [PAPER; 3]);
    }
}
