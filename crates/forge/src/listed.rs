use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// How deep folders may lie in each other.
const DEEPEST: usize = 16;

/// The files of a folder and of the folders in it whose names end in one of these ways, in any case: in the order of their names, and no
/// more than `most`. A folder that is in another by a link too is looked at once.
///
/// # Errors
/// [`Error::Read`] for a folder that can't be read.
pub(crate) fn listed(folder: &Path, endings: &[&str], most: usize) -> Result<Vec<PathBuf>> {
    let mut listing = Listing { endings, most, files: Vec::new(), seen: BTreeSet::new() };
    listing.add(folder, 0)?;
    Ok(listing.files)
}

struct Listing<'a> {
    endings: &'a [&'a str],
    most: usize,
    files: Vec<PathBuf>,
    /// Folders, without links in their paths.
    seen: BTreeSet<PathBuf>,
}

impl Listing<'_> {
    fn add(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let read = |source| Error::Read { path: folder.to_owned(), source };
        if !self.seen.insert(folder.canonicalize().map_err(read)?) {
            return Ok(());
        }
        let mut entries = fs::read_dir(folder).map_err(read)?.collect::<std::io::Result<Vec<_>>>().map_err(read)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for path in entries.iter().map(fs::DirEntry::path) {
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            if path.is_dir() && depth < DEEPEST {
                self.add(&path, depth + 1)?;
            } else if ending.is_some_and(|ending| self.endings.contains(&&*ending))
                && path.is_file()
                && self.files.len() < self.most
            {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_to_folders_above_come_to_an_end_and_no_more_files_are_listed_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for name in ["b.pt", "A.PT", "c.txt", "inner/d.pt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for i in 0..12 {
            std::os::unix::fs::symlink(folder.path(), inner.join(format!("up{i}"))).unwrap();
        }
        let names = |most| {
            let files = listed(folder.path(), &["pt"], most).unwrap();
            files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(9), ["A.PT", "b.pt", "d.pt"]);
        assert_eq!(names(2), ["A.PT", "b.pt"]);
        assert!(matches!(listed(&folder.path().join("x"), &[], 1), Err(Error::Read { .. })));
    }
}
