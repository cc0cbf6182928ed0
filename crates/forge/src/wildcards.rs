//! A folder of wildcards: text files with one choice a line.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::text_file;

/// The longest wildcard that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// The most files that are looked at, and how deep folders may lie in each other.
const MOST_FILES: usize = 10_000;
const DEEPEST: usize = 8;

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
                let mut found = BTreeMap::new();
                let why = |error: io::Error| format!("{}: {error}", self.path.display());
                list(self.path, "", 0, &mut found).map_err(why)?;
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

/// The text files of a folder and of those in it, by their names; what begins with a point is left alone.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = |part: Option<&std::ffi::OsStr>| format!("{prefix}{}", part.unwrap_or_default().to_string_lossy());
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !is_hidden && depth < DEEPEST {
            list(&path, &format!("{}/", name(path.file_name())), depth + 1, files)?;
        } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt")) && files.len() < MOST_FILES
        {
            files.insert(name(path.file_stem()), path);
        }
    }
    Ok(())
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
