//! Where results go: Rust's own standard output swallows what can't be written where none is open.

use std::{fs::File, io::stdout};

/// Standard output as the file that it is.
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

/// Whether the process was started without standard output. Rust opens `/dev/null` in its place, to be read too, which shells don't.
#[cfg(target_os = "linux")]
pub(crate) fn stdout_is_closed() -> bool {
    /// What of a file's flags says how it was opened, and what both ways are (open(2)).
    const ACCESS: u32 = 3;
    const READ_AND_WRITE: u32 = 2;
    static IS_CLOSED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/self/fdinfo/1").unwrap_or_default();
        let flags = text.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        let is_null = std::fs::read_link("/proc/self/fd/1").is_ok_and(|place| place.as_os_str() == "/dev/null");
        is_null && flags.is_some_and(|flags| flags & ACCESS == READ_AND_WRITE)
    });
    *IS_CLOSED
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stdout_is_closed() -> bool {
    false
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
