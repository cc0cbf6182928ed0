//! Pictures side by side, with what is different about each written beside its row and above its column.

use diffusion_engine::{PictureFormat, Raster, Size};
use forge::Image;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::error::Result;

const BACKGROUND: [u8; 3] = [255; 3];
const HEIGHT: RasterHeight = RasterHeight::Size20;
const LINE: usize = 24;
const MARGIN: usize = 8;

/// A table of pictures of one size, of which several stand below each other.
pub(super) struct Sheet {
    /// Of all columns.
    pub(super) columns: Vec<String>,
    /// Of all rows; empty labels where nothing differs.
    pub(super) rows: Vec<String>,
    /// Of the tables.
    pub(super) tables: Vec<String>,
    /// Of each picture.
    pub(super) cell: [usize; 2],
}

impl Sheet {
    /// Width and height of the whole, where it can be counted.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        let [width, height] = self.cell;
        let across = (width + MARGIN).checked_mul(self.columns.len())?.checked_add(self.left())?.checked_add(MARGIN)?;
        let table = (height + MARGIN).checked_mul(self.rows.len())?.checked_add(self.top())?;
        Some([across, table.checked_mul(self.tables.len())?.checked_add(MARGIN)?])
    }

    /// What making it and writing it takes of memory, in bytes: more than one of its pictures takes beside it before.
    pub(super) fn bytes(&self, format: PictureFormat) -> u64 {
        let [width, height] = self.size().unwrap_or([usize::MAX; 2]);
        let pixels = (width as u64).saturating_mul(height as u64);
        pixels.saturating_mul(3).saturating_add(format.encoding_bytes(Size { width, height }))
    }

    /// The whole without a text of its own. `pictures` are those of the first row of the first table, then of its second, and are asked for one
    /// by one; `None` where there are too few.
    pub(super) fn drawn(&self, mut pictures: impl Iterator<Item = Result<Raster<3>>>) -> Result<Option<Image>> {
        let Some([width, height]) = self.size() else { return Ok(None) };
        let mut canvas = Canvas { width, pixels: vec![BACKGROUND; width * height] };
        let [cell_width, cell_height] = self.cell;
        let (left, top) = (self.left(), self.top());
        let table_height = top + (cell_height + MARGIN) * self.rows.len();
        let column = |x: usize| left + MARGIN + (cell_width + MARGIN) * x;
        for (z, table) in self.tables.iter().enumerate() {
            let above = table_height * z + MARGIN;
            canvas.write(table, [MARGIN, above], width - 2 * MARGIN);
            let labels = above + if self.is_named(&self.tables) { LINE } else { 0 };
            self.columns.iter().enumerate().for_each(|(x, label)| canvas.write(label, [column(x), labels], cell_width));
            for (y, label) in self.rows.iter().enumerate() {
                let row = table_height * z + top + (cell_height + MARGIN) * y;
                canvas.write(label, [MARGIN, row + cell_height.saturating_sub(LINE) / 2], left.saturating_sub(MARGIN));
                for x in 0..self.columns.len() {
                    let Some(picture) = pictures.next() else { return Ok(None) };
                    canvas.put(picture?.pixels(), self.cell, [column(x), row]);
                }
            }
        }
        let pixels = canvas.pixels.into_flattened();
        Ok(Some(Image { width, height, pixels, infotext: String::new() }))
    }

    /// What the labels of rows take.
    fn left(&self) -> usize {
        let longest = self.rows.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let width = longest * get_raster_width(FontWeight::Regular, HEIGHT);
        if width == 0 { 0 } else { width.min(self.cell[0].max(120)) + MARGIN }
    }

    /// What a table's name and the labels of columns take.
    fn top(&self) -> usize {
        MARGIN + [&self.tables, &self.columns].into_iter().filter(|labels| self.is_named(labels)).count() * LINE
    }

    fn is_named(&self, labels: &[String]) -> bool {
        labels.iter().any(|label| !label.is_empty())
    }
}

struct Canvas {
    width: usize,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    fn put(&mut self, picture: &[[u8; 3]], [width, height]: [usize; 2], [left, top]: [usize; 2]) {
        for (row, y) in picture.chunks_exact(width).take(height).zip(top..) {
            self.pixels[y * self.width + left..][..width].copy_from_slice(row);
        }
    }

    /// Writes a line, of which the end is left out where it is longer than `most` pixels.
    fn write(&mut self, text: &str, [left, top]: [usize; 2], most: usize) {
        let advance = get_raster_width(FontWeight::Regular, HEIGHT);
        let room = most / advance;
        let is_cut = text.chars().count() > room;
        let shown = text.chars().take(if is_cut { room.saturating_sub(2) } else { room });
        for (i, letter) in shown.chain(if is_cut { ".." } else { "" }.chars()).enumerate() {
            let known = |letter| get_raster(letter, FontWeight::Regular, HEIGHT);
            let Some(raster) = known(letter).or_else(|| known('?')) else { continue };
            for (y, row) in raster.rows().enumerate() {
                for (x, &ink) in row.iter().enumerate() {
                    let at = (top + y) * self.width + left + i * advance + x;
                    if let Some(pixel) = self.pixels.get_mut(at) {
                        *pixel = pixel.map(|paper| paper - paper.min(ink));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_is_in_its_place_and_labels_are_where_there_are_any() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let sheet = Sheet {
            columns: names(&["steps 1", "steps 2"]),
            rows: names(&["cfg 1", "cfg 2", "cfg 3"]),
            tables: names(&["seed 1", "seed 2"]),
            cell: [64, 32],
        };
        let size = Size { width: 64, height: 32 };
        let pictures = (0..12u8).map(|i| Ok(Raster::new(size, vec![[i, 0, 0]; 64 * 32]).unwrap()));
        let image = sheet.drawn(pictures).unwrap().unwrap();
        assert_eq!(sheet.size(), Some([image.width, image.height]));
        let pixels = image.pixels.as_chunks::<3>().0;
        let mut seen: Vec<u8> =
            pixels.iter().filter(|pixel| pixel[1] == 0 && pixel[2] == 0 && pixel[0] < 12).map(|p| p[0]).collect();
        seen.dedup();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
        for i in 1..12 {
            assert_eq!(pixels.iter().filter(|pixel| **pixel == [i, 0, 0]).count(), 64 * 32, "{i}");
        }
        let bare = Sheet { rows: names(&[""]), tables: names(&[""]), columns: names(&[""]), cell: [64, 32] };
        assert_eq!(bare.size(), Some([64 + 2 * MARGIN, 32 + 3 * MARGIN]));
        assert!(bare.drawn(std::iter::empty()).unwrap().is_none());
    }

    #[test]
    fn a_label_that_is_too_long_or_has_letters_that_are_not_there_is_still_written() {
        let label = "猫 ".repeat(500);
        let sheet =
            Sheet { columns: vec![label.clone()], rows: vec![label.clone()], tables: vec![label], cell: [16, 16] };
        let picture = Raster::new(Size { width: 16, height: 16 }, vec![[9; 3]; 256]).unwrap();
        assert!(sheet.drawn(std::iter::once(Ok(picture))).unwrap().is_some());
    }
}
