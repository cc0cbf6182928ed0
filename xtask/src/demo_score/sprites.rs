//! The sprites that the demo model was trained on, and the backgrounds that they were laid over.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use serde::Deserialize;

use crate::image::{self, Image};

/// The sprites, all of one size; at least two subjects and two backgrounds, or there would be nothing to tell apart.
pub(super) struct Sprites {
    pub size: usize,
    pub subjects: Vec<Subject>,
    pub backgrounds: Vec<Background>,
}

pub(super) struct Subject {
    pub name: String,
    pub caption: String,
    pub sprite: Image<4>,
}

pub(super) struct Background {
    pub name: String,
    pub colour: [u8; 3],
}

/// `subjects.json`: what each cell of `subjects.png` shows, row by row.
#[derive(Deserialize)]
struct Index {
    columns: usize,
    size: usize,
    subjects: Vec<Entry>,
    backgrounds: BTreeMap<String, [u8; 3]>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    caption: String,
}

impl Sprites {
    /// Reads `subjects.json` and `subjects.png` from `folder`.
    pub(super) fn read(folder: &Path) -> Result<Sprites, Box<dyn Error>> {
        let path = folder.join("subjects.json");
        let fault = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| fault(&error))?;
        let index: Index = serde_json::from_str(&text).map_err(|error| fault(&error))?;
        let sheet = image::read(&folder.join("subjects.png"))?;
        Ok(Sprites::cut(index, &sheet)?)
    }

    fn cut(index: Index, sheet: &Image<4>) -> Result<Sprites, String> {
        let Index { columns, size, subjects, backgrounds } = index;
        if subjects.len() < 2 || backgrounds.len() < 2 {
            return Err("`subjects.json` needs two subjects and two backgrounds at least".to_string());
        }
        if columns == 0 || size == 0 {
            return Err("`subjects.json` has no columns, or sprites without a size".to_string());
        }
        let (width, height) = (columns * size, subjects.len().div_ceil(columns) * size);
        if (sheet.width, sheet.height) != (width, height) {
            let Image { width: found_width, height: found_height, .. } = sheet;
            return Err(format!(
                "`subjects.png` is {found_width} x {found_height}, `subjects.json` describes {width} x {height}"
            ));
        }
        let subjects = subjects.into_iter().enumerate().map(|(cell, Entry { name, caption })| {
            let (left, top) = (cell % columns * size, cell / columns * size);
            Subject { name, caption, sprite: Image::paint(size, size, |x, y| sheet.at(left + x, top + y)) }
        });
        let backgrounds = backgrounds.into_iter().map(|(name, colour)| Background { name, colour });
        Ok(Sprites { size, subjects: subjects.collect(), backgrounds: backgrounds.collect() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Three shapes of 32 pixels, the last of them opaque, and two backgrounds.
    pub(crate) fn shapes() -> Sprites {
        let (red, clear) = ([200, 30, 30, 255], [0, 0, 0, 0]);
        let disc = |x: usize, y: usize| {
            if x.abs_diff(16).pow(2) + y.abs_diff(16).pow(2) < 100 { red } else { clear }
        };
        let bar = |x: usize, _: usize| if x.abs_diff(16) < 4 { red } else { clear };
        let carpet = |x: usize, y: usize| {
            if (x / 8 + y / 8).is_multiple_of(2) { red } else { [30, 200, 30, 255] }
        };
        let sheet = Image::paint(64, 64, |x, y| match (x / 32, y / 32) {
            (0, 0) => disc(x, y),
            (1, 0) => bar(x - 32, y),
            (0, 1) => carpet(x, y - 32),
            _ => clear,
        });
        Sprites::cut(index(2), &sheet).unwrap()
    }

    fn index(columns: usize) -> Index {
        let text = format!(
            r#"{{"columns": {columns}, "size": 32, "backgrounds": {{"white": [255, 255, 255], "blue": [40, 92, 212]}},
                "subjects": [{{"name": "disc", "caption": "a disc"}}, {{"name": "bar", "caption": "a bar"}},
                             {{"name": "carpet", "caption": "a carpet"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn cells_are_cut_row_by_row() {
        let sprites = shapes();
        let names: Vec<_> = sprites.subjects.iter().map(|subject| subject.name.as_str()).collect();
        assert_eq!(names, ["disc", "bar", "carpet"]);
        assert_eq!(sprites.subjects[1].sprite.at(16, 0), [200, 30, 30, 255]);
        assert_eq!(sprites.subjects[2].sprite.at(0, 8), [30, 200, 30, 255]);
    }

    #[test]
    fn a_sheet_of_another_size_is_an_error() {
        let sheet = Image::paint(64, 64, |_, _| [0; 4]);
        let error = Sprites::cut(index(3), &sheet).err().unwrap();
        assert_eq!(error, "`subjects.png` is 64 x 64, `subjects.json` describes 96 x 32");
    }
}
