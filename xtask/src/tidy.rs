//! `cargo xtask tidy`: the rules that no compiler knows.
//!
//! Reads what git tracks or would track, changes nothing, and tells every fault at once with its place and what to do; docs that are stale only
//! where nothing else is wrong.

mod circles;
mod dependencies;
mod paths;
mod rust;
mod stack;

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::{Done, root};

/// One broken rule: where, and what to do about it.
#[derive(Clone, Debug, PartialEq)]
struct Fault {
    path: String,
    line: Option<usize>,
    message: String,
}

pub(crate) fn run() -> Done {
    let files = files(root())?;
    let text = |path: &str| files.iter().find(|file| file.path == path).and_then(|file| file.text.as_deref());
    let manifests = files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)));
    let manifests: Vec<_> = manifests.filter(|(path, _)| stack::is_manifest(path)).collect();
    let workspace = text("Cargo.toml").ok_or("no Cargo.toml in the workspace root")?;
    let reasons = text("docs/dependencies.md").unwrap_or_default();

    let in_files = files.iter().flat_map(|file| {
        let text = file.text.as_deref().unwrap_or_default();
        let rust = if file.path.ends_with(".rs") { rust::check(&file.path, text) } else { vec![] };
        [paths::check(&file.path, file.bytes, text), rust].concat()
    });
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    let rust: Vec<_> = rust.filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?))).collect();
    let of_crates =
        [stack::check(&manifests)?, dependencies::check(workspace, &manifests, reasons)?, circles::check(&rust)];
    let mut faults: Vec<Fault> = in_files.chain(of_crates.concat()).collect();
    if faults.is_empty() {
        // Last, as it compiles.
        faults.extend(stale_docs()?);
    }
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    match faults.len() {
        0 => Ok(()),
        1 => Err("1 fault".into()),
        count => Err(format!("{count} faults").into()),
    }
}

/// `docs/samplers.md` where it is not what the registry says; the test that compares them has the registry, which this program does
/// not link.
fn stale_docs() -> Result<Option<Fault>, Box<dyn Error>> {
    let test = Command::new(env!("CARGO"))
        // Of the whole workspace, as a package alone would have Burn built once more with other features.
        .args(["test", "--quiet", "--workspace", "--test", "docs"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot start cargo, which compares docs with the registry: {error}"))?;
    if test.status.success() {
        return Ok(None);
    }
    eprint!("{}{}", String::from_utf8_lossy(&test.stdout), String::from_utf8_lossy(&test.stderr));
    let message = "differs from the registry; `UPDATE_DOCS=1 cargo test -p flux --test docs` writes it";
    Ok(Some(Fault::new("docs/samplers.md", None, message)))
}

/// A file that git tracks, or would at the next `git add`; text only where it is UTF-8.
struct Listed {
    path: String,
    bytes: u64,
    text: Option<String>,
}

fn files(root: &Path) -> Result<Vec<Listed>, Box<dyn Error>> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start git, which tells what belongs to the project: {error}"))?;
    if !git.status.success() {
        return Err(format!("`git ls-files` failed: {}", String::from_utf8_lossy(&git.stderr).trim()).into());
    }
    let listed = String::from_utf8(git.stdout).map_err(|_| "a file name is not UTF-8; rename it")?;
    let paths = listed.split('\0').filter(|path| root.join(path).is_file());
    paths
        .map(|path| {
            let bytes = std::fs::read(root.join(path)).map_err(|error| format!("cannot read `{path}`: {error}"))?;
            Ok(Listed { path: path.to_string(), bytes: bytes.len() as u64, text: String::from_utf8(bytes).ok() })
        })
        .collect()
}

impl Fault {
    fn new(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Fault {
        Fault { path: path.to_string(), line: line.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}
