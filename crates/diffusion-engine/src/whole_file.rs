//! Files that are written completely or not at all.
//!
//! The bytes go to a temporary file beside the name, which takes the name when it is on disk. A process that is killed in between
//! leaves the temporary file; its lock goes with the process, so that [`sweep`] can tell it from one that is still being written.

mod begun;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use self::begun::{Begun, begun};
use crate::{
    Error, Unwritable,
    unwritable::{LONGEST_NAME, LONGEST_PATH},
};

pub use self::begun::{Abandoned, abandon_begun};

const PREFIX: &str = ".forge-";
const SUFFIX: &str = ".tmp";

/// Writes a file completely or not at all. Missing folders are made; a file of that name is replaced by one with its permissions, and
/// where the name is a link, the file that it leads to.
///
/// # Errors
/// [`Error::Write`], and then nothing is left behind but folders that were made; [`Error::Unsynced`] where the file is there, but
/// the system could not promise that its name survives a power loss.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    written(path, Take::Replacing, fill)
}

/// [`write_whole`] of a file that is not there yet. On drives that can't give a name only where it is free, what takes it in that very moment
/// is replaced.
///
/// # Errors
/// As there, and [`Unwritable::Taken`] where the name is a file's by then.
pub fn write_new(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    written(path, Take::Free, fill)
}

/// How a file takes its name.
#[derive(Clone, Copy, PartialEq)]
enum Take {
    /// Of another, with its permissions.
    Replacing,
    /// The same, and it need not be on disk.
    Passing,
    /// If it is nobody's.
    Free,
}

/// What such drives answer.
const NO_WAY: [io::ErrorKind; 3] =
    [io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput];

fn written(path: &Path, take: Take, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let place = followed(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    replace(&place, take, fill).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    sync_folder(folder(&place)).map_err(|source| Error::Unsynced { path: path.to_owned(), source })
}

/// The same of a file that soon is replaced by the next, such as a picture in the making: who reads it sees all of it or the one before, but
/// nothing waits until it is on disk.
///
/// # Errors
/// [`Error::Write`].
pub fn write_passing(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let written = followed(path).and_then(|place| replace(&place, Take::Passing, fill));
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, take: Take, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Unwritable> {
    check_name(path)?;
    fs::create_dir_all(folder(path))?;
    let (mut file, _begun) = temporary(folder(path))?;
    let mut out = BufWriter::new(file.as_file_mut());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    if let (Ok(replaced), true) = (path.metadata(), take != Take::Free) {
        file.as_file().set_permissions(replaced.permissions())?;
    }
    if take != Take::Passing {
        durable(file.as_file().sync_all())?;
    }
    if take != Take::Free {
        return Ok(file.persist(path).map(drop).map_err(|error| error.error)?);
    }
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists || path.symlink_metadata().is_ok() => {
            Err(Unwritable::Taken)
        }
        // Some drives have no way to ask for both at once.
        Err(error) if NO_WAY.contains(&error.error.kind()) => {
            Ok(error.file.persist(path).map(drop).map_err(|error| error.error)?)
        }
        Err(error) => Err(error.error.into()),
    }
}

/// Finds out before the work whether [`write_whole`] would be able to, and leaves no trace.
///
/// # Errors
/// Why it would not.
pub fn check_writable(path: &Path) -> Result<(), Unwritable> {
    let path = &followed(path)?;
    check_name(path)?;
    // Folders that are missing are made when there is something to write; until then the nearest one that exists must do.
    for ancestor in folder(path).ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match ancestor.metadata() {
            Ok(found) if found.is_dir() => return Ok(temporary(ancestor)?.0.close()?),
            Ok(_) => return Err(Unwritable::NotAFolder { path: ancestor.to_owned() }),
            Err(error) if ancestor.is_symlink() => return Err(broken(ancestor, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file stands in a folder's place further up, or a folder can't be looked into: further up it is told which.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound).into())
}

/// The place that a path leads to where it is a link.
fn followed(path: &Path) -> Result<PathBuf, Unwritable> {
    if path.is_symlink() && !path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return path.canonicalize().map_err(|error| broken(path, error));
    }
    Ok(path.to_owned())
}

/// Why a link leads nowhere: its target is not there, or may not be looked at, or it leads back to itself.
fn broken(link: &Path, error: io::Error) -> Unwritable {
    match error.kind() {
        io::ErrorKind::NotFound => Unwritable::DanglingLink { link: link.to_owned() },
        _ => Unwritable::Link { link: link.to_owned(), error },
    }
}

/// Removes what killed runs have left in a folder: temporary files of [`write_whole`] that no process writes any more. Returns how
/// many there were.
///
/// What can't be looked at or removed is left alone.
pub fn sweep(folder: &Path) -> usize {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = folder.read_dir() else { return 0 };
    let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
    names.filter(|path| is_abandoned(path) && fs::remove_file(path).is_ok()).count()
}

fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let Some(middle) = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX)) else { return false };
    let Ok(found) = path.symlink_metadata() else { return false };
    if !found.is_file() {
        return false;
    }
    // Its writer may be between making the file and locking it.
    let may_be_new = match middle.split_once('-').and_then(|(id, _)| id.parse().ok()) {
        Some(id) => id != std::process::id() && lives(id).unwrap_or_else(|| is_new(&found)),
        None => is_new(&found),
    };
    !may_be_new && OpenOptions::new().write(true).open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Whether a process runs; `None` where the system does not show its processes.
fn lives(process: u32) -> Option<bool> {
    let processes = Path::new("/proc");
    processes.join("self").exists().then(|| processes.join(process.to_string()).exists())
}

fn is_new(found: &fs::Metadata) -> bool {
    const A_MINUTE: Duration = Duration::from_secs(60);
    found.modified().map_or(true, |time| SystemTime::now().duration_since(time).is_ok_and(|age| age < A_MINUTE))
}

fn temporary(folder: &Path) -> io::Result<(tempfile::NamedTempFile, Begun)> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    builder.prefix(&prefix).suffix(SUFFIX);
    // Temporary files are private unless told otherwise; a picture is as readable as the umask lets any new file be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Who sees other processes than these may take the file for a dead one's, until it is locked.
    const TRIES: usize = 4;
    for _ in 1..TRIES {
        let file = locked(&builder, folder)?;
        if file.0.path().exists() {
            return Ok(file);
        }
    }
    locked(&builder, folder)
}

fn locked(builder: &tempfile::Builder, folder: &Path) -> io::Result<(tempfile::NamedTempFile, Begun)> {
    // There is no moment in which a file is there and not listed.
    let mut begun = begun();
    let file = builder.tempfile_in(folder)?;
    let path = file.path().to_owned();
    begun.push(path.clone());
    drop(begun);
    // Some network drives have no locks; what is left there is swept once its process is gone.
    let _ = file.as_file().try_lock();
    Ok((file, Begun(path)))
}

fn check_name(path: &Path) -> Result<(), Unwritable> {
    let bytes = path.as_os_str().len();
    if bytes > LONGEST_PATH {
        return Err(Unwritable::LongPath { bytes });
    }
    if let Some(long) = path.iter().find(|part| part.len() > LONGEST_NAME) {
        let start = long.to_string_lossy().chars().take(20).collect();
        return Err(Unwritable::LongName { start, bytes: long.len() });
    }
    if path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) || path.file_name().is_none() {
        return Err(if path.is_dir() { Unwritable::Folder } else { Unwritable::NoName });
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(Unwritable::Folder),
        Ok(found) if !found.is_file() => Err(Unwritable::Special { kind: special(&found) }),
        Ok(found) => replaceable(path, &found),
        Err(_) => Ok(()),
    }
}

/// Whether a file can give its name to another: none that is mounted there, nor another user's in a folder such as `/tmp`.
#[cfg(target_os = "linux")]
fn replaceable(path: &Path, found: &fs::Metadata) -> Result<(), Unwritable> {
    use std::os::unix::fs::MetadataExt;
    const STICKY: u32 = 0o1000;
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // proc(5): the fifth field is where, with spaces and the like as octal digits.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_mounted = |line: &str| {
        let at = line.split(' ').nth(4).map(unescaped);
        at.is_some_and(|at| at == place.as_os_str().as_encoded_bytes())
    };
    if mounted.lines().any(is_mounted) {
        return Err(Unwritable::Mounted);
    }
    let (Ok(folder), Ok(own)) = (folder(path).metadata(), fs::metadata("/proc/self")) else { return Ok(()) };
    let is_others = ![0, found.uid(), folder.uid()].contains(&own.uid());
    if folder.mode() & STICKY != 0 && is_others { Err(Unwritable::Others) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
fn replaceable(_: &Path, _: &fs::Metadata) -> Result<(), Unwritable> {
    Ok(())
}

/// A path of `mountinfo`, in which a backslash is before three octal digits.
#[cfg(target_os = "linux")]
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let first = parts.next().unwrap_or_default().as_bytes().to_vec();
    parts.fold(first, |mut path, part| {
        let (digits, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        path.extend(u8::from_str_radix(digits, 8).ok());
        path.extend(rest.as_bytes());
        path
    })
}

#[cfg(unix)]
fn special(found: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match found.file_type() {
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn special(_: &fs::Metadata) -> &'static str {
    "no file"
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename last through a power loss; elsewhere than on Unix a folder can't be opened for it.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    durable(File::open(folder).and_then(|folder| folder.sync_all()))
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// What a sync says, if it says that bytes may be lost. Network drives refuse to sync, and folders that may be written need not be
/// readable; neither loses anything.
fn durable(synced: io::Result<()>) -> io::Result<()> {
    const EIO: i32 = 5;
    match synced {
        Err(error)
            if error.raw_os_error() == Some(EIO)
                || matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) -> Result<(), Error> {
        write_whole(path, |out| out.write_all(b"new"))
    }

    #[test]
    fn a_refused_name_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder.png")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["folder.png", "file/b.png", &"n".repeat(256), &format!("{}/a.png", "n".repeat(256)), "a.png/"] {
            assert!(matches!(write(&at(name)), Err(Error::Write { .. })), "{name}");
            assert!(check_writable(&at(name)).is_err(), "{name}");
        }
        let failed = write_whole(&at("c.png"), |out| {
            out.write_all(b"part")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(matches!(failed, Err(Error::Write { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_takes_no_others_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_new(&at("a"), |out| out.write_all(b"new")).unwrap();
        let taken = write_new(&at("a"), |out| out.write_all(b"newer"));
        assert!(matches!(taken, Err(Error::Write { source: Unwritable::Taken, .. })));
        // also where the other came meanwhile
        let taken = write_new(&at("b"), |out| fs::write(at("b"), "other").and_then(|()| out.write_all(b"new")));
        assert!(matches!(taken, Err(Error::Write { source: Unwritable::Taken, .. })));
        assert_eq!([at("a"), at("b")].map(|path| fs::read(path).unwrap()), [b"new".to_vec(), b"other".to_vec()]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_begun_is_removed_by_a_process_that_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("other"));
        fs::write(&other, "").unwrap();
        let written = write_whole(&path, |out| {
            out.write_all(b"part")?;
            // Tests of other files run beside this one.
            while begun().iter().any(|path| path.starts_with(folder.path()) && path.exists()) {
                drop(abandon_begun());
            }
            assert_eq!(fs::read_dir(folder.path())?.count(), 1);
            Ok(())
        });
        assert!(written.is_err() && other.exists() && !path.exists());
        assert!(!begun().iter().any(|path| path.starts_with(folder.path())));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn names_of_places_are_read_as_they_are_escaped() {
        assert_eq!(unescaped("/a"), b"/a");
        assert_eq!(unescaped("/a\\040b\\134c"), b"/a b\\c");
        // where something is mounted, nothing else can be
        let mounted = fs::metadata("/proc").unwrap();
        assert!(replaceable(Path::new("/proc"), &mounted).is_err());
    }

    #[test]
    fn a_path_that_is_too_long_in_all_is_told_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let deep = ["n".repeat(200).as_str(); 25].iter().fold(folder.path().to_owned(), |path, part| path.join(part));
        assert!(matches!(check_writable(&deep.join("a.png")), Err(Unwritable::LongPath { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        assert!(matches!(check_writable(&at("link/a.png")), Err(Unwritable::DanglingLink { .. })));
        assert!(matches!(check_writable(&at("link/deep/a.png")), Err(Unwritable::DanglingLink { .. })));
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(matches!(check_writable(&at("socket")), Err(Unwritable::Special { kind: "a socket" })));
        assert!(matches!(check_writable(Path::new("/dev/null")), Err(Unwritable::Special { kind: "a device" })));
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        assert!(matches!(check_writable(&at("pipe")), Err(Unwritable::Special { kind: "a pipe" })));
        assert!(write(&at("pipe")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_leads_to_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("deep/real"), "old").unwrap();
        std::os::unix::fs::symlink(at("deep/real"), at("first")).unwrap();
        std::os::unix::fs::symlink(at("first"), at("second")).unwrap();
        write(&at("second")).unwrap();
        assert_eq!(fs::read(at("deep/real")).unwrap(), b"new");
        assert!(at("first").is_symlink() && at("second").is_symlink());
        std::os::unix::fs::symlink(at("nowhere"), at("broken")).unwrap();
        assert!(matches!(check_writable(&at("broken")), Err(Unwritable::DanglingLink { .. })));
        std::os::unix::fs::symlink(at("round"), at("round")).unwrap();
        assert!(matches!(check_writable(&at("round")), Err(Unwritable::Link { .. })));
        assert!(matches!(check_writable(&at("round/a")), Err(Unwritable::Link { .. })));
        assert!(write(&at("broken")).is_err() && at("broken").is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for mode in [0o600, 0o664, 0o444, 0o640] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            write(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_killed_runs_leave_is_swept_and_what_runs_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // given a file of a process that is gone, of this process under another's lock, and of none
        fs::write(at(".forge-4294967294-abc.tmp"), "part").unwrap();
        fs::write(at(".forge-old.tmp"), "of a version that named no process").unwrap();
        let minutes_ago = SystemTime::now() - Duration::from_secs(600);
        File::options().write(true).open(at(".forge-old.tmp")).unwrap().set_modified(minutes_ago).unwrap();
        fs::write(at(".forge-new.tmp"), "").unwrap();
        fs::write(at("forge-4294967294-abc.tmp"), "of somebody else").unwrap();
        let (own, _begun) = temporary(folder.path()).unwrap();
        // when the folder is swept, then the others' are left
        assert_eq!(sweep(folder.path()), 2);
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(own.path().exists());
        // and its own from before is swept as well, as numbers of processes come again
        let left = own.keep().unwrap().1;
        assert_eq!(sweep(folder.path()), 1);
        assert!(!left.exists());
    }
}
