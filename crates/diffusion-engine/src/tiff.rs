//! TIFF's directories, in which Exif keeps what it tells of a picture.

const ORIENTATION: u16 = 0x0112;

/// How a camera was held, from 1 for upright to 8; 1 where that is not said.
pub(crate) fn orientation(tiff: &[u8]) -> u16 {
    let tiff = Tiff::new(tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff));
    let said = tiff.and_then(|tiff| {
        let entries = tiff.directory(tiff.u32(4)?);
        tiff.u16(entries.iter().find(|entry| entry.tag == ORIENTATION)?.at)
    });
    said.filter(|said| (1..=8).contains(said)).unwrap_or(1)
}

/// A block of entries by tags, as Exif is one.
pub(crate) struct Tiff<'a> {
    bytes: &'a [u8],
    pub(crate) big_endian: bool,
}

/// An entry of a directory.
pub(crate) struct Entry {
    pub(crate) tag: u16,
    /// Bytes of the value; those of an unknown kind have none.
    length: usize,
    /// Where the entry's own four bytes are: the value if it fits in, and if not its place.
    at: usize,
    pub(crate) value: u32,
}

impl<'a> Tiff<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"II*\0" => Some(Self { bytes, big_endian: false }),
            b"MM\0*" => Some(Self { bytes, big_endian: true }),
            _ => None,
        }
    }

    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    /// The entries of a directory, as far as the bytes go.
    pub(crate) fn directory(&self, at: u32) -> Vec<Entry> {
        let at = at as usize;
        let count = self.u16(at).unwrap_or(0).into();
        (0..count).map_while(|i| self.entry(at.checked_add(2)?.checked_add(12 * i)?)).collect()
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        let size = match self.u16(at.checked_add(2)?)? {
            1 | 2 | 6 | 7 => 1, // bytes, ASCII, signed bytes, undefined
            4 => 4,             // a pointer
            _ => 0,
        };
        let count = self.u32(at.checked_add(4)?)? as usize;
        let at = at.checked_add(8)?;
        Some(Entry { tag: self.u16(at - 8)?, length: count.saturating_mul(size), at, value: self.u32(at)? })
    }

    pub(crate) fn bytes(&self, entry: &Entry) -> Option<&'a [u8]> {
        let at = if entry.length <= 4 { entry.at } else { entry.value as usize };
        // A text that is cut off is still told as far as it goes.
        let rest = self.bytes.get(at..)?;
        Some(&rest[..entry.length.min(rest.len())])
    }
}
