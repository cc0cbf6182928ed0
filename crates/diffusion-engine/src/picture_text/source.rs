//! A file that is walked from its start: every length is held against what is left of it.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// A file, and where in it one is.
pub(super) struct Source<R> {
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Source<R> {
    /// At the start of a file.
    pub(super) fn new(mut inner: R) -> io::Result<Self> {
        let len = inner.seek(SeekFrom::End(0))?;
        inner.rewind()?;
        Ok(Self { inner: BufReader::new(inner), at: 0, len })
    }

    /// Where one is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes, without going on; fewer at the end of the file.
    pub(super) fn peek(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.inner.by_ref().take(count).read_to_end(&mut bytes)?;
        self.inner.seek_relative(-(bytes.len() as i64))?;
        Ok(bytes)
    }

    /// The next bytes; `None` if the file has not so many, and then one stays.
    pub(super) fn take(&mut self, count: u64) -> io::Result<Option<Vec<u8>>> {
        if count > self.len - self.at {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.inner.by_ref().take(count).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < count {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)); // the file became shorter
        }
        self.at += count;
        Ok(Some(bytes))
    }

    /// The next `N` bytes, as [`Source::take`].
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        Ok(self.take(N as u64)?.and_then(|bytes| bytes.try_into().ok()))
    }

    /// Goes over bytes; `false` if the file has not so many, and then one is at its end.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<bool> {
        let step = count.min(self.len - self.at);
        self.inner.seek_relative(i64::try_from(step).map_err(io::Error::other)?)?;
        self.at += step;
        Ok(step == count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn no_length_leads_past_the_end() {
        let mut source = Source::new(Cursor::new(b"abcdef".to_vec())).unwrap();
        assert_eq!(source.peek(3).unwrap(), b"abc");
        assert_eq!(source.array::<2>().unwrap(), Some(*b"ab"));
        assert_eq!(source.take(5).unwrap(), None);
        assert!(source.skip(2).unwrap());
        assert_eq!((source.at(), source.take(2).unwrap()), (4, Some(b"ef".to_vec())));
        assert!(!source.skip(u64::MAX).unwrap());
        assert_eq!(source.peek(9).unwrap(), b"");
    }
}
