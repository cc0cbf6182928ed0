//! Exif: the text tags of a TIFF directory.

use super::{charset, stored::Stored};
use crate::tiff::Tiff;

const DESCRIPTION: u16 = 0x010e;
const MAKE: u16 = 0x010f;
const MODEL: u16 = 0x0110;
const EXIF: u16 = 0x8769;
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
