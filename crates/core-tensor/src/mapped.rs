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
    use super::*;

    #[test]
    fn a_file_that_the_system_does_not_map_is_read() {
        // One of the kernel's own, which has a length and no pages.
        let path = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
        let Ok(expected) = std::fs::read(path) else { return };
        let file = File::open(path).unwrap();
        assert!(matches!(map(&file, 4096), Ok(Bytes::Read(bytes)) if bytes == expected));
        assert_eq!(Mapped::open(path).unwrap()[..], expected);
    }
}
