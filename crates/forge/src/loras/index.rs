use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Error, Result, listed::listed};

/// The most files that are listed.
const MOST_FILES: usize = 100_000;

/// LoRA files by the names that prompts call them by, found once: a file's name without its ending, with or without the folders before it.
#[derive(Clone, Debug, Default)]
pub struct LoraIndex {
    files: BTreeMap<String, PathBuf>,
    folder: Option<PathBuf>,
}

impl LoraIndex {
    /// How the names of such files end; what else lies there, such as previews, is left alone.
    pub(crate) const ENDINGS: [&str; 4] = ["safetensors", "pt", "bin", "ckpt"];

    /// The files of a folder and of the folders in it, in the order of their names; of two with one name the first has it, and both have
    /// their names with folders.
    ///
    /// # Errors
    /// [`Error::Read`] for a folder that can't be read.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut index = Self { files: BTreeMap::new(), folder: Some(folder.to_owned()) };
        for path in listed(folder, &Self::ENDINGS, MOST_FILES)? {
            let within = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
            let long: Vec<_> = within.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            let short = long.last().map(|name| name.clone().into_owned());
            let long = long.join("/");
            for name in [Some(long), short].into_iter().flatten() {
                index.files.entry(name).or_insert_with(|| path.clone());
            }
        }
        Ok(index)
    }

    /// The same with a file of its own, which goes before one of the folder.
    pub fn add(&mut self, name: String, path: PathBuf) {
        self.files.insert(name, path);
    }

    /// The file that a prompt calls so; a name in other letters' case will do where there is none in its own.
    ///
    /// # Errors
    /// [`Error::NoLora`] with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Path> {
        let bare = Self::ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)?.strip_suffix('.')).unwrap_or(name);
        let same = |known: &&String| known.to_lowercase() == bare.to_lowercase();
        let found = self.files.get(bare).or_else(|| self.files.get(self.files.keys().find(same)?));
        found.map(PathBuf::as_path).ok_or_else(|| Error::NoLora {
            name: name.to_owned(),
            known: self.files.keys().cloned().collect(),
            folder: self.folder.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_is_a_files_with_or_without_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("style")).unwrap();
        for name in ["fur.safetensors", "fur.png", "style/fur.safetensors", "style/Ink v2.safetensors"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let index = LoraIndex::of(folder.path()).unwrap();
        let found = |name: &str| index.find(name).map(|path| path.strip_prefix(folder.path()).unwrap().to_owned());
        assert_eq!(found("fur").unwrap(), Path::new("fur.safetensors"));
        assert_eq!(found("style/fur").unwrap(), Path::new("style/fur.safetensors"));
        assert_eq!(found("ink V2.safetensors").unwrap(), Path::new("style/Ink v2.safetensors"));
        let Err(Error::NoLora { known, .. }) = found("furr") else { panic!("it was found") };
        assert!(known.contains(&"fur".to_owned()));
        assert!(matches!(LoraIndex::of(&folder.path().join("x")), Err(Error::Read { .. })));
    }
}
