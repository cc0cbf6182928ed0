//! Paths as people write them in configs and flags: `~` is the home folder, and what is no path is refused.

use std::path::{Component, Path, PathBuf};

use crate::{Error, NotAPath, Result};

/// What stands for standard output in the place of a picture's name.
pub const STANDARD_OUTPUT: &str = "-";

/// A path of something that is read, relative to `folder` where it is relative.
///
/// # Errors
/// [`Error::NotAPath`].
pub fn to_read(key: &str, path: &Path, folder: &Path) -> Result<PathBuf> {
    let wrong = |what| Err(Error::NotAPath { key: key.to_owned(), path: path.to_owned(), what });
    // Whatever it looks like: what is there is meant.
    let literal = folder.join(path);
    if path.as_os_str().is_empty() {
        return wrong(NotAPath::Empty);
    }
    if literal.exists() {
        return Ok(literal);
    }
    let expanded = folder.join(expand(key, path)?);
    if is_hub_id(path) && !expanded.exists() && !expanded.parent().is_some_and(Path::exists) {
        return wrong(NotAPath::HubId);
    }
    Ok(expanded)
}

/// A path of something that is written, relative to `folder` where it is relative.
///
/// # Errors
/// [`Error::NotAPath`].
pub fn to_write(key: &str, path: &Path, folder: &Path) -> Result<PathBuf> {
    Ok(folder.join(expand(key, path)?))
}

fn expand(key: &str, path: &Path) -> Result<PathBuf> {
    let wrong = |what| Err(Error::NotAPath { key: key.to_owned(), path: path.to_owned(), what });
    let Some(text) = path.to_str() else { return Ok(path.to_owned()) };
    if is_address(text) {
        return wrong(NotAPath::Address);
    }
    if !cfg!(windows) && is_of_windows(text) {
        return wrong(NotAPath::OfWindows);
    }
    if text.split(['/', '\\']).any(is_variable) {
        return wrong(NotAPath::Variable);
    }
    let mut parts = path.components();
    let Some(Component::Normal(first)) = parts.next() else { return Ok(path.to_owned()) };
    match first.to_str() {
        Some("~") => match std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) {
            Some(home) => Ok(home.join(parts)),
            None => wrong(NotAPath::NoHome),
        },
        Some(first) if is_home_of_another(first) && parts.next().is_some() => wrong(NotAPath::HomeOfAnother),
        _ => Ok(path.to_owned()),
    }
}

/// `scheme:/…`; a scheme of one letter is a drive of Windows.
fn is_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_hub = ["hf", "huggingface", "civitai"].iter().any(|hub| scheme.eq_ignore_ascii_case(hub));
    is_scheme && (rest.starts_with('/') || is_hub)
}

/// `$NAME`, `${NAME}` or `%NAME%`.
fn is_variable(part: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(rest) = part.strip_prefix('$') {
        return rest
            .strip_prefix('{')
            .map_or_else(|| is_name(rest), |rest| rest.strip_suffix('}').is_some_and(is_name));
    }
    part.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(is_name)
}

/// `C:\…`, `C:/…`, `~\…`.
fn is_of_windows(text: &str) -> bool {
    matches!(text.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic()) || text.starts_with("~\\")
}

fn is_home_of_another(first: &str) -> bool {
    let name = first.strip_prefix('~').unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_lowercase() || "_+-".contains(c)) && !name.contains('.')
}

/// `owner/name`, with no ending that a model file has.
fn is_hub_id(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    let Some((owner, name)) = text.split_once('/') else { return false };
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let ending = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    let is_file = ["safetensors", "sft", "gguf", "ckpt", "pt", "pth", "bin", "toml", "png", "json"].contains(&&*ending);
    is_word(owner) && is_word(name) && !is_file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> std::result::Result<PathBuf, NotAPath> {
        to_read("model.clip", Path::new(path), Path::new("base")).map_err(|error| match error {
            Error::NotAPath { what, .. } => what,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_home_folder_is_filled_in_and_other_paths_are_as_they_are() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(read("~/a/b.safetensors"), Ok(home.join("a/b.safetensors")));
        assert_eq!(read("~"), Ok(home));
        for path in ["a.safetensors", "a/b.safetensors", "a/~/b", "~a.safetensors", "a$b/c.safetensors", "5$/x", "../x"]
        {
            assert_eq!(read(path), Ok(Path::new("base").join(path)), "{path}");
        }
        assert_eq!(read("/abs/x.safetensors"), Ok("/abs/x.safetensors".into()));
    }

    #[test]
    fn what_is_no_path_is_told_for_what_it_is() {
        for (path, what) in [
            ("file:///a/b.safetensors", NotAPath::Address),
            ("https://example.org/x.safetensors", NotAPath::Address),
            ("hf://owner/name", NotAPath::Address),
            ("hf:owner/name", NotAPath::Address),
            ("$HOME/x.safetensors", NotAPath::Variable),
            ("${MODELS}/x.safetensors", NotAPath::Variable),
            ("/a/$MODELS/x.safetensors", NotAPath::Variable),
            ("%USERPROFILE%\\x.safetensors", NotAPath::Variable),
            ("~user/x.safetensors", NotAPath::HomeOfAnother),
            ("~+/x.safetensors", NotAPath::HomeOfAnother),
            ("C:/models/x.safetensors", NotAPath::OfWindows),
            ("d:\\models\\x.safetensors", NotAPath::OfWindows),
            ("~\\x.safetensors", NotAPath::OfWindows),
            ("black-forest-labs/FLUX.1-dev", NotAPath::HubId),
            ("openai/clip-vit-large-patch14", NotAPath::HubId),
            ("", NotAPath::Empty),
        ] {
            assert_eq!(read(path), Err(what), "{path}");
        }
    }

    #[test]
    fn what_is_there_is_meant_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["$HOME", "~user", "~", "owner"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            let path = Path::new(name).join("name");
            std::fs::write(folder.path().join(&path), "").unwrap();
            assert_eq!(to_read("model.clip", &path, folder.path()).unwrap(), folder.path().join(path));
        }
    }

    #[test]
    fn a_picture_in_the_home_folder_makes_no_folder_of_that_name() {
        let write = |path: &str| to_write("image.output", Path::new(path), Path::new("base"));
        assert_eq!(write("~/{seed}.png").unwrap(), std::env::home_dir().unwrap().join("{seed}.png"));
        assert_eq!(write("out/{seed}.png").unwrap(), Path::new("base/out/{seed}.png"));
        for path in ["$HOME/x.png", "file:///x.png", "~user/x.png"] {
            assert!(matches!(write(path), Err(Error::NotAPath { .. })), "{path}");
        }
    }
}
