//! A place in a file's bytes, from which numbers and texts are read.

use super::fault::Placed;
use crate::{GgufFault, error::abridged};

/// Reads forward; whatever is not there is an error that says what it was and where.
pub(super) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    pub(super) fn over(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The same from another place on, which is in the file.
    pub(super) fn starting(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Where it is.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    /// How many bytes there are behind it.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64, what: &'static str) -> Result<&'b [u8], Placed> {
        let (at, left) = (self.at(), self.left());
        if length > left {
            return Err(GgufFault::Cut { what, needs: length, left }.at(at));
        }
        let start = self.at;
        self.at += length as usize;
        Ok(&self.bytes[start..self.at])
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Placed> {
        let bytes = self.take(N as u64, what)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Placed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Placed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A number of things that take `least` bytes each: no more than there is room for.
    pub(super) fn count(&mut self, what: &'static str, least: u64) -> Result<u64, Placed> {
        let at = self.at();
        let found = self.u64("a count")?;
        let most = self.left() / least;
        if found > most {
            return Err(GgufFault::Count { what, found, most }.at(at));
        }
        Ok(found)
    }

    /// The bytes of a text, behind their number.
    pub(super) fn raw_text(&mut self, what: &'static str) -> Result<&'b [u8], Placed> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// A text in UTF-8.
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'b str, Placed> {
        let at = self.at();
        let bytes = self.raw_text(what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufFault::NotText { what }.at(at))
    }

    /// A text of 1 to `limit` bytes.
    pub(super) fn name(&mut self, what: &'static str, limit: usize) -> Result<&'b str, Placed> {
        let at = self.at();
        let name = self.text(what)?;
        match name.len() {
            0 => Err(GgufFault::NoName { what }.at(at)),
            length if length > limit => Err(GgufFault::LongName { what, name: abridged(name), limit }.at(at)),
            _ => Ok(name),
        }
    }
}
