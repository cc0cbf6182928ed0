//! What pictures are called.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use diffusion_engine::PictureFormat;

use crate::{Error, Result};

/// Names for pictures, and the format that they end in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    names: Names,
    format: PictureFormat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// A text in which `{seed}` and `{index}` are filled in.
    Filled(String),
    /// One name, whatever it has in it.
    One(PathBuf),
    /// Those with a number between these two.
    Numbered([OsString; 2]),
}

/// The endings of formats that pictures may have elsewhere.
const FORMATS: [(&str, &str); 6] =
    [("avif", "AVIF"), ("jxl", "JPEG XL"), ("tif", "TIFF"), ("tiff", "TIFF"), ("bmp", "BMP"), ("gif", "GIF")];

/// How A1111 and ComfyUI begin what they fill in.
const OTHERS_FIELDS: [&str; 8] = ["%seed%", "%date%", "%date:", "%width%", "%height%", "[seed]", "[date]", "[datetime"];

impl Pattern {
    /// A pattern that gives each picture of a batch a name of its own; `seeds` are theirs, and `quality` is that of JPEGs.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Format`] for names that would collide, fill nothing in or promise another format.
    pub fn new(pattern: &Path, quality: u8, seeds: &[u64]) -> Result<Self> {
        let wrong = |expected: &str| {
            let found = format!("`{}`", pattern.display());
            Err(Error::Value { key: "image.output".into(), expected: expected.into(), found })
        };
        let Some(text) = pattern.to_str() else { return wrong("a name in UTF-8") };
        let distinct: BTreeSet<&u64> = seeds.iter().collect();
        if !text.contains("{index}") && (distinct.len() < seeds.len() || seeds.len() > 1 && !text.contains("{seed}")) {
            return wrong(match distinct.len() {
                1 => "`{index}` in it, as there are several pictures of one seed",
                _ => "`{index}` or `{seed}` in it, as there are several pictures",
            });
        }
        if text.replace("{seed}", "").replace("{index}", "").contains(['{', '}']) {
            return wrong("no braces but `{seed}` and `{index}`");
        }
        let lower = text.to_lowercase();
        if OTHERS_FIELDS.iter().any(|field| lower.contains(field)) {
            return wrong("`{seed}` or `{index}`, as what other programs fill in is not");
        }
        let ending = pattern.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        if let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == ending) {
            return Err(Error::Format { path: pattern.to_owned(), format });
        }
        let Some(format) = PictureFormat::of(pattern, quality) else {
            return wrong(&format!("a name that ends in {}", PictureFormat::ENDINGS));
        };
        Ok(Self { names: Names::Filled(text.to_owned()), format })
    }

    /// The names of pictures that are drawn of another: its own in another folder, with a number behind it where they are several. Nothing is
    /// filled in, whatever that name has in it.
    ///
    /// # Errors
    /// [`Error::Value`] for a name that ends in no format of pictures.
    pub fn after(picture: &Path, folder: &Path, quality: u8, pictures: usize) -> Result<Self> {
        let Some(format) = PictureFormat::of(picture, quality) else {
            let expected = format!("a picture whose name ends in {}", PictureFormat::ENDINGS);
            return Err(Error::Value { key: "FOLDER".into(), expected, found: format!("`{}`", picture.display()) });
        };
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_owned();
        let names = match pictures {
            1 => Names::One(folder.join(part(picture.file_name()))),
            _ => {
                let mut before = folder.join(part(picture.file_stem())).into_os_string();
                before.push("-");
                let mut behind = OsString::from(".");
                behind.push(part(picture.extension()));
                Names::Numbered([before, behind])
            }
        };
        Ok(Self { names, format })
    }

    /// The format of the pictures.
    pub fn format(&self) -> PictureFormat {
        self.format
    }

    /// The name of one picture.
    pub fn path(&self, seed: u64, index: usize) -> PathBuf {
        match &self.names {
            Names::Filled(text) => {
                text.replace("{seed}", &seed.to_string()).replace("{index}", &index.to_string()).into()
            }
            Names::One(path) => path.clone(),
            Names::Numbered([before, behind]) => {
                let mut name = before.clone();
                name.push(index.to_string());
                name.push(behind);
                name.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_of_a_picture_is_called_as_it_is() {
        let names = |picture: &str, pictures: usize| {
            let pattern = Pattern::after(Path::new(picture), Path::new("out"), 95, pictures).unwrap();
            let names = (0..pictures).map(|index| pattern.path(7, index));
            names.map(|path| path.strip_prefix("out").unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        // given names with what would be filled in elsewhere
        for name in ["a.png", "{seed}.png", "{.png", "[seed] {index}.JPG", "%date%.webp"] {
            assert_eq!(names(&format!("/in/{name}"), 1), [name]);
        }
        assert_eq!(names("/in/a.b.png", 2), ["a.b-0.png", "a.b-1.png"]);
        assert_eq!(names("/in/{seed}.png", 2), ["{seed}-0.png", "{seed}-1.png"]);
        assert!(matches!(Pattern::after(Path::new("a.gif"), Path::new("out"), 95, 1), Err(Error::Value { .. })));
    }
}
