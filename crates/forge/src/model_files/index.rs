//! `*.index.json`: which of a folder's files holds which tensor, as diffusers and transformers write beside a split model.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{abridged, container::read_bounded};
use crate::{Error, Result};

/// The most files that a model may be split into; the largest known model has 191.
pub(crate) const MOST_FILES: usize = 1024;

/// The longest index that is read; that of Flux in diffusers' layout is 120 kB.
const LIMIT: u64 = 16 << 20;

/// A folder's own word about its files.
pub(crate) struct Index {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// The files, plain names in the index's folder.
    pub(crate) files: Vec<String>,
    /// Which of them holds a tensor.
    pub(crate) tensors: BTreeMap<String, usize>,
}

impl Index {
    /// Reads an index and checks that it names nothing but files beside it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_bounded(path, LIMIT)?)
    }

    /// The same of a file's bytes; `path` is what messages call it.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let parsed: File =
            serde_json::from_slice(bytes).map_err(|source| Error::ModelConfig { path: path.to_owned(), source })?;
        let WeightMap { files, tensors } = parsed.weight_map;
        let wrong = |problem: String| Err(Error::Index { path: path.to_owned(), problem });
        if let Some(file) = files.iter().find(|file| !is_plain(file)) {
            return wrong(format!("expected the names of files in its folder, found `{}`", abridged(file)));
        }
        if tensors.is_empty() {
            return wrong("it lists no tensors".into());
        }
        Ok(Self { path: path.to_owned(), files, tensors })
    }
}

/// The files that an index names, plain names in its folder, in no order. `path` is what messages call it.
///
/// # Errors
/// [`Error::ModelConfig`] for what is no such JSON, [`Error::Index`] for names that are no files beside it.
pub fn indexed_files(path: &Path, json: &[u8]) -> Result<Vec<String>> {
    Index::parse(path, json).map(|index| index.files)
}

/// The name of a file and nothing else, wherever it is read.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    single && name.len() <= 255 && !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.')
}

#[derive(serde::Deserialize)]
struct File {
    weight_map: WeightMap,
}

struct WeightMap {
    files: Vec<String>,
    tensors: BTreeMap<String, usize>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

/// Keeps a file's name once, and takes no tensor twice.
struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a file's name for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut tensors: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(tensor) = map.next_key::<String>()? {
            let file: String = map.next_value()?;
            let next = numbers.len();
            let number = *numbers.entry(file).or_insert(next);
            if number >= MOST_FILES {
                return Err(A::Error::custom(format_args!("more than {MOST_FILES} files")));
            }
            if tensors.contains_key(&tensor) {
                return Err(A::Error::custom(format_args!("`{}` occurs twice", abridged(&tensor))));
            }
            tensors.insert(tensor, number);
        }
        let mut files = vec![String::new(); numbers.len()];
        numbers.into_iter().for_each(|(file, number)| files[number] = file);
        Ok(WeightMap { files, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_files_of_the_folder() {
        for good in ["model.safetensors", "a b-00001-of-00002.safetensors", "ä.sft"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", "C:a", "a\0", ".hidden", &"n".repeat(300)] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
