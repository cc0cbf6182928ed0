//! Standard output beside Rust's own.

use std::{fs::File, io::stdout};

/// Standard output as the file that it is: Rust's own swallows what can't be written where none is open.
#[cfg(unix)]
pub(crate) fn unbuffered_stdout() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Standard output as the file that it is.
#[cfg(windows)]
pub(crate) fn unbuffered_stdout() -> std::io::Result<File> {
    use std::os::windows::io::AsHandle;
    stdout().as_handle().try_clone_to_owned().map(File::from)
}

/// Whether what is told of a run would stand among the bytes of a picture: both streams lead to one file, pipe or socket.
#[cfg(unix)]
pub(crate) fn words_go_there() -> bool {
    use std::os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    };
    let place = |stream: BorrowedFd| {
        let found = stream.try_clone_to_owned().map(File::from)?.metadata()?;
        // What is sent to a device such as `/dev/null` stands nowhere.
        Ok::<_, std::io::Error>((!found.file_type().is_char_device()).then(|| (found.dev(), found.ino())))
    };
    let (out, err) = (stdout(), std::io::stderr());
    matches!((place(out.as_fd()), place(err.as_fd())), (Ok(Some(out)), Ok(Some(err))) if out == err)
}

#[cfg(not(unix))]
pub(crate) fn words_go_there() -> bool {
    false
}
