//! A file's bytes, mapped into memory where the system can.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    ops::{Deref, Range},
    path::Path,
    sync::Arc,
};

use crate::Error;

/// A file's bytes, or others that stay as they are. Cheap to clone: clones share them.
#[derive(Clone)]
pub struct Mapped(Arc<Bytes>);

enum Bytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl Mapped {
    /// Maps a file; reads it where the system can't.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::NotAFile`] for a folder or a device.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let form = path.metadata().map_err(read)?;
        if !form.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(read)?;
        Ok(Self(Arc::new(map(&file, form.len()).map_err(read)?)))
    }
}

impl Mapped {
    /// Gives back to the system the memory in which a part of a file was read; who reads it again makes the system read it again.
    #[allow(unsafe_code, reason = "the advice loses what was written to other kinds of maps")]
    pub fn give_back(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &*self.0 {
            use memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and read-only, so its pages hold the file's bytes and nothing else; the system reads them
            // again where they are asked for.
            let advised = unsafe { map.unchecked_advise_range(DontNeed, range.start, range.len()) };
            // It is an advice: where it is not taken, the memory stays in use.
            drop(advised);
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Mapped {
    /// Asks the system to read a part of a file that is needed soon. Returns once that has begun, for which it may have to wait for the disk.
    pub(crate) fn read_ahead(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &*self.0 {
            let end = range.end.min(map.len());
            for start in (range.start..end).step_by(READ_AHEAD) {
                let length = READ_AHEAD.min(end - start);
                // It is an advice: where it is not taken, the part is read when it is needed.
                if map.advise_range(memmap2::Advice::WillNeed, start, length).is_err() {
                    return;
                }
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// How much the system is asked to read at once: Linux reads no more for a single advice than its disk takes in a single request.
#[cfg(unix)]
const READ_AHEAD: usize = 128 << 10;

impl From<Vec<u8>> for Mapped {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Read(bytes)))
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

/// The first `length` bytes of a file.
#[allow(unsafe_code)]
fn map(file: &File, length: u64) -> io::Result<Bytes> {
    // SAFETY: the map is read-only and private to this process. Another process that shortens the file while it is mapped
    // can end this one with SIGBUS, as with every mapped file; the bytes themselves are only ever read as plain integers.
    match unsafe { memmap2::Mmap::map(file) } {
        Ok(map) => Ok(Bytes::Mapped(map)),
        Err(_) => {
            // What the system says is the length, and no more: some of its own files have none, and are read for ever.
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(usize::try_from(length).map_err(io::Error::other)?)?;
            file.take(length).read_to_end(&mut bytes)?;
            Ok(Bytes::Read(bytes))
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// How many bytes of a file are in memory; `None` where nothing tells.
    fn held(path: &Path) -> Option<u64> {
        let told =
            Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output().ok()?;
        String::from_utf8(told.stdout).ok()?.trim().parse().ok()
    }

    /// Has the system forget what it read of a file; `None` where it does not.
    fn forgotten(path: &Path) -> Option<()> {
        let path_of = format!("if={}", path.display());
        Command::new("dd").args([&path_of, "iflag=nocache", "count=0", "status=none"]).status().ok()?;
        (held(path)? == 0).then_some(())
    }

    #[test]
    fn a_part_that_is_needed_soon_is_read_before_anything_touches_it_and_no_other_part_is() {
        const PART: usize = 8 << 20;
        // given a file that is on the disk alone, beside this program, as a folder for such files may be in memory
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![1; 8 * PART]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let mapped = Mapped::open(&path).unwrap();
        if forgotten(&path).is_none() {
            return;
        }
        // when a part is asked for, from no border of a page on
        mapped.read_ahead(PART + 5..2 * PART + 5);
        // then it is soon there, with what the system reads around it at most
        let start = Instant::now();
        while held(&path).unwrap() < PART as u64 {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?} of {PART} bytes", held(&path));
            thread::sleep(Duration::from_millis(10));
        }
        assert!(held(&path).unwrap() <= 2 * PART as u64, "{:?} bytes", held(&path));
        assert!(mapped[PART + 5..2 * PART + 5].iter().all(|&byte| byte == 1));
    }

    #[test]
    fn a_file_that_the_system_does_not_map_is_read() {
        // One of the kernel's own, which has a length and no pages.
        let path = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
        let Ok(expected) = std::fs::read(path) else { return };
        let file = File::open(path).unwrap();
        assert!(matches!(map(&file, 4096), Ok(Bytes::Read(bytes)) if bytes == expected));
        assert_eq!(Mapped::open(path).unwrap()[..], expected);
    }

    #[test]
    fn parts_that_are_not_in_the_file_or_in_no_file_are_not_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 10]).unwrap();
        Mapped::open(file.path()).unwrap().read_ahead(0..usize::MAX);
        Mapped::from(vec![0; 10]).read_ahead(0..10);
    }
}
