//! Rules for every file of any kind: its name, its size, and no trace of the machine that it was written on.

use super::Fault;

/// Names that say nothing of what is inside, and so collect everything.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "base", "types", "prelude"];

/// A clone stays quick: nothing larger belongs into the history.
const MAX_BYTES: u64 = 25_000_000;

/// Split, so that this file passes its own check.
const MACHINE_FOLDERS: &[&str] = &[concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];

/// The faults of one file; `text` is empty for a file that is no text.
pub(super) fn check(path: &str, bytes: u64, text: &str) -> Vec<Fault> {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let drawer = folders.split('/').chain(file.strip_suffix(".rs")).find(|name| DRAWERS.contains(name)).map(|name| {
        Fault::new(path, None, format!("`{name}` says nothing of what is inside: name it after its one concept"))
    });
    let large = (bytes > MAX_BYTES).then(|| {
        let message =
            format!("{bytes} bytes, {MAX_BYTES} at most: generate it, or store it elsewhere and say how to fetch it");
        Fault::new(path, None, message)
    });
    let machine = (1..).zip(text.lines()).filter_map(|(number, line)| {
        let folder = MACHINE_FOLDERS.iter().find(|folder| names_folder(line, folder))?;
        Some(Fault::new(path, number, format!("`{folder}…` is a path of one machine: make it relative to the project")))
    });
    drawer.into_iter().chain(large).chain(machine).collect()
}

/// Whether `folder` stands in `line` as an absolute path, and not in the middle of an address or of a relative path.
fn names_folder(line: &str, folder: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.~}".contains(c);
    line.match_indices(folder).any(|(start, _)| !line[..start].ends_with(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, bytes: u64, text: &str) -> Vec<String> {
        check(path, bytes, text).iter().map(Fault::to_string).collect()
    }

    #[test]
    fn a_drawer_is_refused_as_a_file_and_as_a_folder() {
        for path in ["crates/flux/src/utils.rs", "crates/flux/src/common/rope.rs", "xtask/src/prelude.rs"] {
            assert_eq!(check(path, 0, "").len(), 1, "{path}");
        }
        for path in ["crates/flux/src/rope.rs", "crates/flux/src/base_shift.rs", "docs/types.md"] {
            assert_eq!(check(path, 0, ""), [], "{path}");
        }
    }

    #[test]
    fn a_large_file_is_refused() {
        assert_eq!(check("fixtures/models/demo.safetensors", MAX_BYTES, ""), []);
        assert_eq!(
            told("fixtures/models/demo.safetensors", MAX_BYTES + 1, ""),
            [
                "fixtures/models/demo.safetensors: 25000001 bytes, 25000000 at most: generate it, or store it elsewhere and \
              say how to fetch it"
            ]
        );
    }

    #[test]
    fn a_machine_path_is_told_with_its_line() {
        let text = format!("# recipe\ncp {}out.png .\n", MACHINE_FOLDERS[2]);
        let faults = told("fixtures/README.md", 0, &text);
        assert!(faults[0].starts_with("fixtures/README.md:2: "), "{faults:?}");
        for quoted in ["\"", "'", "`", "(", "=", ":", "//", " "] {
            assert_eq!(check("a.py", 0, &format!("{quoted}{}x", MACHINE_FOLDERS[0])).len(), 1, "{quoted}");
        }
    }

    #[test]
    fn addresses_and_relative_paths_are_no_machine_paths() {
        for before in ["https://example.org", "~", "./my", "${PWD}", ".."] {
            assert_eq!(check("a.md", 0, &format!("{before}{}x", MACHINE_FOLDERS[0])), [], "{before}");
        }
    }
}
