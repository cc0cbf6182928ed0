//! A folder of wildcards: text files with one choice a line.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Error, listed::listed, text_file};

/// The longest wildcard that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// How their names end.
pub(crate) const ENDINGS: [&str; 1] = ["txt"];

/// The most files that are looked at.
const MOST_FILES: usize = 10_000;

/// A folder whose files are found by their names without the ending, with `/` between folders: what is found once is kept.
pub(crate) struct Folder<'a> {
    path: &'a Path,
    files: OnceCell<BTreeMap<String, PathBuf>>,
    known: RefCell<BTreeMap<String, Option<String>>>,
}

impl<'a> Folder<'a> {
    pub(crate) fn of(path: &'a Path) -> Self {
        Self { path, files: OnceCell::new(), known: RefCell::default() }
    }

    /// The lines of all wildcards of a name, in which `*` stands for any characters and `?` for one. One that is not there is looked for in
    /// all folders of the folder, as the extension sd-dynamic-prompts does.
    ///
    /// # Errors
    /// Which file can't be read, and why.
    pub(crate) fn lines(&self, name: &str) -> Result<Option<String>, String> {
        if let Some(known) = self.known.borrow().get(name) {
            return Ok(known.clone());
        }
        let files = match self.files.get() {
            Some(files) => files,
            None => {
                let found = list(self.path).map_err(|error| match error {
                    Error::Read { path, source } => format!("{}: {source}", path.display()),
                    other => other.to_string(),
                })?;
                self.files.get_or_init(|| found)
            }
        };
        let fitting = |pattern: &str| -> Vec<&PathBuf> {
            files.iter().filter(|(known, _)| fits(known, pattern)).map(|(_, path)| path).collect()
        };
        let found = match fitting(name) {
            none if none.is_empty() => fitting(&format!("*/{name}")),
            found => found,
        };
        let mut lines = Vec::new();
        for path in &found {
            let text = text_file::read(path, LONGEST).map_err(|error| format!("{}: {error}", path.display()))?;
            lines.push(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned());
        }
        let lines = (!found.is_empty()).then(|| lines.join("\n"));
        self.known.borrow_mut().insert(name.to_owned(), lines.clone());
        Ok(lines)
    }
}

/// The text files of a folder and of those in it, by their names; folders whose names begin with a point are left alone.
fn list(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let named = |path: PathBuf| {
        let within = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
        let steps: Vec<_> = within.iter().map(|step| step.to_string_lossy()).collect();
        let (_, folders) = steps.split_last()?;
        let is_hidden = folders.iter().any(|folder| folder.starts_with('.'));
        (!is_hidden).then(|| (steps.join("/"), path.clone()))
    };
    Ok(listed(folder, &ENDINGS, MOST_FILES)?.into_iter().filter_map(named).collect())
}

/// Whether a name fits a pattern, in which `*` stands for any characters and `?` for one.
fn fits(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < name.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(c) if *c == '?' || *c == name[at] => (at, of) = (at + 1, of + 1),
            _ => {
                // The last star takes one more.
                let Some((place, from)) = star else { return false };
                star = Some((place, from + 1));
                (of, at) = (place + 1, from + 1);
            }
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn wildcards_are_found_by_names_patterns_and_in_folders() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a.txt", "\u{feff}one\r\n".as_bytes());
        write("ab.txt", b"two");
        write("pets/cat.txt", b"tom");
        write("pets/wild/lion.TXT", b"leo");
        write("pets/wild/more/lion.txt", b"elsa");
        write(".git/hidden.txt", b"no");
        write("bad.txt", b"\xff\xfe");
        write("a.png", b"no");
        let wildcards = Folder::of(folder.path());
        let lines = |name: &str| wildcards.lines(name).unwrap().map(|text| text.replace(['\r', '\n'], " "));
        for (name, expected) in [
            ("a", Some("one  ")),
            ("a*", Some("one   two")),
            ("?b", Some("two")),
            ("pets/cat", Some("tom")),
            ("cat", Some("tom")),
            ("lion", Some("leo elsa")),
            ("pets/*", Some("tom leo elsa")),
            ("*/lion", Some("leo elsa")),
            ("hidden", None),
            ("dog", None),
            ("../a", None),
            ("", None),
        ] {
            assert_eq!(lines(name).as_deref(), expected, "{name}");
            assert_eq!(lines(name).as_deref(), expected, "{name}, kept");
        }
        let why = wildcards.lines("bad").unwrap_err();
        assert!(why.contains("bad.txt") && why.contains("UTF-8"), "{why}");
        let nowhere = folder.path().join("nowhere");
        assert!(Folder::of(&nowhere).lines("a").is_err());
    }

    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        let start = std::time::Instant::now();
        assert!(!fits(&"a".repeat(200), &("*a".repeat(90) + "b")));
        assert!(start.elapsed().as_secs() < 5);
    }
}
