//! Exif: the text tags of a TIFF directory.

use super::{charset, stored::Stored};

const DESCRIPTION: u16 = 0x010e;
const MAKE: u16 = 0x010f;
const MODEL: u16 = 0x0110;
const EXIF: u16 = 0x8769;
const ORIENTATION: u16 = 0x0112;
const XP_COMMENT: u16 = 0x9c9c;
const USER_COMMENT: u16 = 0x9286;

/// The texts by the keys that a PNG would have for them.
///
/// ComfyUI writes `prompt:{…}` and `workflow:{…}` into tags that are meant for the camera (comfy_extras/nodes_images.py, v0.3.64), and
/// SwarmUI wrote its settings into one. Everything that does not fit into the bytes is passed over.
pub(super) fn texts(tiff: &[u8]) -> Vec<(String, Stored)> {
    let Some(tiff) = Tiff::new(tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff)) else { return Vec::new() };
    let mut found = Vec::new();
    // The first directory and the one that it points to: no chain is followed further, so none can be endless.
    let first = tiff.u32(4).map(|at| tiff.directory(at)).unwrap_or_default();
    let second: Vec<_> = first.iter().filter(|entry| entry.tag == EXIF).take(1).collect();
    let second = second.into_iter().flat_map(|entry| tiff.directory(entry.value)).collect::<Vec<_>>();
    for entry in first.iter().chain(&second) {
        let Some(bytes) = tiff.bytes(entry) else { continue };
        match entry.tag {
            USER_COMMENT => {
                found.push(("usercomment".to_owned(), charset::user_comment(bytes, tiff.big_endian)));
            }
            XP_COMMENT => found.push(("xpcomment".to_owned(), Stored::Text(charset::utf16_le(bytes)))),
            DESCRIPTION | MAKE | MODEL => {
                let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
                let text = charset::guessed(&bytes[..end]);
                found.push(match text.split_once(':') {
                    Some((key, json)) if json.trim_start().starts_with('{') => {
                        (key.trim().to_lowercase(), Stored::Text(json.to_owned()))
                    }
                    _ if text.trim_start().starts_with('{') => ("usercomment".to_owned(), Stored::Text(text)),
                    _ => ("description".to_owned(), Stored::Text(text)),
                });
            }
            _ => {}
        }
    }
    found
}

/// How a camera was held, from 1 for upright to 8; 1 where that is not said.
pub(crate) fn orientation(tiff: &[u8]) -> u16 {
    let tiff = Tiff::new(tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff));
    let said = tiff.and_then(|tiff| {
        let entries = tiff.directory(tiff.u32(4)?);
        tiff.u16(entries.iter().find(|entry| entry.tag == ORIENTATION)?.at)
    });
    said.filter(|said| (1..=8).contains(said)).unwrap_or(1)
}

struct Tiff<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

struct Entry {
    tag: u16,
    /// Bytes of the value; those of an unknown kind have none.
    length: usize,
    /// Where the entry's own four bytes are: the value if it fits in, and if not its place.
    at: usize,
    value: u32,
}

impl<'a> Tiff<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"II*\0" => Some(Self { bytes, big_endian: false }),
            b"MM\0*" => Some(Self { bytes, big_endian: true }),
            _ => None,
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    /// The entries of a directory, as far as the bytes go.
    fn directory(&self, at: u32) -> Vec<Entry> {
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

    fn bytes(&self, entry: &Entry) -> Option<&'a [u8]> {
        let at = if entry.length <= 4 { entry.at } else { entry.value as usize };
        // A text that is cut off is still told as far as it goes.
        let rest = self.bytes.get(at..)?;
        Some(&rest[..entry.length.min(rest.len())])
    }
}
