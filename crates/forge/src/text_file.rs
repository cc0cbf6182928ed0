//! Small texts, read from a file, a pipe or standard input, and no further than they may be long.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Why a text can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// What the system says.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A folder.
    #[error("this is a folder")]
    Folder,
    /// A device or a socket, which may never end.
    #[error("this is neither a file nor a pipe")]
    Special,
    /// More text than has any use here.
    #[error("this is longer than {limit} bytes")]
    TooLong {
        /// What is accepted.
        limit: u64,
    },
    /// Bytes that are no text.
    #[error("this is not UTF-8 text, from byte {at} on")]
    NotUtf8 {
        /// The first byte that is wrong, from 0.
        at: usize,
    },
}

/// What stands for standard input in a place for a file.
pub const STANDARD_INPUT: &str = "-";

/// Reads a text of at most `limit` bytes: a file's, a pipe's, or that of standard input, which is called `-`.
pub fn read(path: &Path, limit: u64) -> Result<String, TextError> {
    if path == Path::new(STANDARD_INPUT) {
        return bounded(io::stdin().lock(), limit);
    }
    let found = path.metadata()?;
    if found.is_dir() {
        return Err(TextError::Folder);
    }
    // A file of no length is not read: those that the kernel makes up may wait for ever.
    if found.is_file() && found.len() == 0 {
        return Ok(String::new());
    }
    if !found.is_file() && !is_pipe(&found) {
        return Err(TextError::Special);
    }
    bounded(File::open(path)?, limit)
}

fn bounded(from: impl Read, limit: u64) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(TextError::TooLong { limit });
    }
    String::from_utf8(bytes).map_err(|error| TextError::NotUtf8 { at: error.utf8_error().valid_up_to() })
}

#[cfg(unix)]
fn is_pipe(found: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_pipes_up_to_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345678").unwrap();
        assert_eq!(read(&path, 8).unwrap(), "12345678");
        assert!(matches!(read(&path, 7), Err(TextError::TooLong { limit: 7 })));
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(matches!(read(&path, 8), Err(TextError::NotUtf8 { at: 2 })));
        assert!(matches!(read(folder.path(), 8), Err(TextError::Folder)));
        if cfg!(target_os = "linux") {
            assert!(matches!(read(Path::new("/dev/zero"), 8), Err(TextError::Special)));
            assert_eq!(read(Path::new("/proc/kmsg"), 8).unwrap(), "");
        }
    }
}
