//! Paths that lead somewhere else than to a file.

use std::{fs, path::Path, process::Command, time::Instant};

use forge::{Error, Size, Txt2Img};

use crate::{End, MESSAGE, alone, place, trial};

/// A reader of a path, and what it is called.
type Reader = (&'static str, fn(&Path) -> Result<(), Error>);

/// Every reader of a path.
fn readers() -> [Reader; 4] {
    [
        ("inspect", |path| forge::inspect(path).map(drop)),
        ("noise", |path| forge::noise_file(path, &Txt2Img::of("").size(Size { width: 64, height: 64 })).map(drop)),
        ("config", |path| forge::Config::read(path).map(drop)),
        ("picture", |path| Ok(forge::read_infotext(path).map(drop)?)),
    ]
}

/// Every reader refuses a path, soon and in a message of some lines.
fn refused(kind: &str, path: &Path) {
    refused_by(&readers(), kind, path);
}

fn refused_by(readers: &[Reader], kind: &str, path: &Path) {
    for (reader, read) in readers {
        let start = Instant::now();
        let (length, refused) = (path.as_os_str().len(), End::Refused(|_| true));
        let faults = trial(&format!("{kind}, {reader}"), length, MESSAGE + 3 * length, refused, || read(path));
        assert!(faults.is_empty(), "{faults:?}");
        assert!(start.elapsed().as_secs() < 10, "{kind}, {reader}: waits");
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let _alone = alone();
    let (_folder, path) = place("nowhere");
    refused("nothing", &path);
    refused("nothing in nothing", &path.join("a.safetensors"));
    refused("no name", Path::new(""));
    refused("a name of 300 bytes", &path.with_file_name("n".repeat(300)));
    refused("a path of 5,000 bytes", &path.join("a/".repeat(2500)));
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let _alone = alone();
    let (folder, path) = place("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // A config may come through a pipe, which is then waited for.
    let others: Vec<Reader> = readers().into_iter().filter(|(reader, _)| *reader != "config").collect();
    refused_by(&others, "a pipe that nobody writes", &path);
    refused("an empty folder", folder.path().join("").as_path().parent().unwrap_or(folder.path()));
    refused("a file as a folder", &path.join("a.safetensors"));
    for device in ["/dev/zero", "/dev/null", "/dev/random", "/dev/tty"] {
        refused(device, Path::new(device));
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed_to_their_end_and_no_further() {
    use std::os::unix::fs::symlink;
    let (folder, path) = place("link");
    symlink(folder.path().join("nowhere"), &path).unwrap();
    refused("a link to nothing", &path);
    let (_folder, path) = place("loop");
    symlink(&path, &path).unwrap();
    refused("a link to itself", &path);
    let (folder, path) = place("m.safetensors");
    symlink(folder.path(), &path).unwrap();
    refused("a link to its folder", &path);
    let (folder, path) = place("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    refused("a socket", &path);
    drop(folder);
}

#[test]
#[cfg(unix)]
fn names_need_not_be_text() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let (folder, _) = place("");
    for name in
        [b"\xff\xfe.safetensors".as_slice(), b"a\nb.safetensors", b"\x1b[2J.safetensors", b"-rf.safetensors", b" "]
    {
        let path = folder.path().join(OsStr::from_bytes(name));
        fs::write(&path, b"no model").unwrap();
        refused(&format!("{name:?}"), &path);
    }
    refused("a NUL", Path::new(OsStr::from_bytes(b"a\0b.safetensors")));
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_system_makes_up_is_not_read_for_ever() {
    // The first waits for messages of the kernel; that the other readers don't wait for them is in `crates/cli/tests/limits.rs`.
    refused_by(&readers()[1..2], "/proc/kmsg", Path::new("/proc/kmsg"));
    for path in ["/proc/self/mem", "/proc/self/maps", "/proc/self/environ", "/proc/self/fd/0", "/sys/kernel/notes"] {
        if Path::new(path).exists() {
            refused_by(&readers()[..2], path, Path::new(path));
        }
    }
}
