//! WebP: the `EXIF` and `XMP ` chunks of a RIFF file.

use std::io::{self, Read, Seek};

use super::{Damage, Found, MAX_TEXT, charset, exif, source::Source, stored::Stored, texts::Texts, xmp};

/// More chunks than any picture has.
const MAX_CHUNKS: usize = 1 << 20;
/// A text in UTF-16 is twice as long as the same in ASCII, and other tags come with it.
const MAX_CHUNK: u64 = 2 * MAX_TEXT as u64 + 65_536;

pub(super) fn walk<R: Read + Seek>(source: &mut Source<R>) -> io::Result<Found> {
    let mut texts = Texts::default();
    let damaged = |texts, what, at| Ok(Found { texts, damage: Some(Damage { what, at }) });
    source.skip(12)?; // RIFF, its length and WEBP
    for _ in 0..MAX_CHUNKS {
        let at = source.at();
        let Some([kind @ .., a, b, c, d]) = source.array::<8>()? else {
            let rest = source.peek(1)?;
            let damage = (!rest.is_empty()).then_some(Damage { what: "the file ends within a chunk", at });
            return Ok(Found { texts, damage });
        };
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        match &kind {
            b"EXIF" | b"XMP " if length <= MAX_CHUNK => {
                let Some(bytes) = source.take(length)? else {
                    return damaged(texts, "the file ends within a text", at);
                };
                if &kind == b"EXIF" {
                    texts.add_all(exif::texts(&bytes));
                } else {
                    texts.add_all(xmp::texts(&charset::guessed(&bytes)));
                }
                source.skip(length % 2)?;
            }
            _ => {
                if &kind == b"EXIF" {
                    texts.add("usercomment", || Stored::TooLong);
                }
                if !source.skip(length)? {
                    return damaged(texts, "the file ends within a chunk", at);
                }
                source.skip(length % 2)?;
            }
        }
    }
    let at = source.at();
    damaged(texts, "more chunks than a picture has", at)
}
