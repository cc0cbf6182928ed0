//! PNG: `tEXt`, `zTXt`, `iTXt` and `eXIf` chunks, before the pixels or behind them.

use std::io::{self, Read, Seek};

use super::{Damage, Found, MAX_TEXT, charset, exif, source::Source, stored::Stored, texts::Texts, xmp};

/// More chunks than any picture has; a file may be made of nothing else.
const MAX_CHUNKS: usize = 1 << 20;
/// A keyword has at most 79 bytes (PNG 1.2, 4.2.3.1); language and translated keyword of an `iTXt` come on top.
const MAX_CHUNK: u64 = MAX_TEXT as u64 + 1024;

pub(super) fn walk<R: Read + Seek>(source: &mut Source<R>) -> io::Result<Found> {
    let mut texts = Texts::default();
    let damaged = |texts, what, at| Ok(Found { texts, damage: Some(Damage { what, at }) });
    let mut broken = None;
    source.skip(8)?; // the signature
    for _ in 0..MAX_CHUNKS {
        let at = source.at();
        let Some([a, b, c, d, kind @ ..]) = source.array::<8>()? else {
            return damaged(texts, "the file ends without its last chunk", at);
        };
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return damaged(texts, "no chunk of a PNG", at);
        }
        match &kind {
            b"IEND" => return Ok(Found { texts, damage: broken }),
            b"tEXt" | b"zTXt" | b"iTXt" | b"eXIf" if length <= MAX_CHUNK => {
                let (Some(bytes), Some(sum)) = (source.take(length)?, source.array::<4>()?) else {
                    return damaged(texts, "the file ends within a text", at);
                };
                if checksum(&kind, &bytes) == u32::from_be_bytes(sum) {
                    add(&mut texts, &kind, bytes, at);
                } else {
                    broken.get_or_insert(Damage { what: "a text whose checksum is wrong", at });
                }
            }
            b"tEXt" | b"zTXt" | b"iTXt" => {
                let start = source.peek(80)?;
                if let Some((key, _)) = keyword(&start).filter(|_| source.skip(length).unwrap_or_default()) {
                    texts.add(&key, || Stored::TooLong);
                    source.skip(4)?;
                } else {
                    return damaged(texts, "the file ends within a text", at);
                }
            }
            _ => {
                if !source.skip(length + 4)? {
                    return damaged(texts, "the file ends within a chunk", at);
                }
            }
        }
    }
    let at = source.at();
    damaged(texts, "more chunks than a picture has", at)
}

fn add(texts: &mut Texts, kind: &[u8; 4], bytes: Vec<u8>, at: u64) {
    if kind == b"eXIf" {
        texts.add_all(exif::texts(&bytes));
        return;
    }
    let Some((key, rest)) = keyword(&bytes) else { return };
    match (kind, rest) {
        (b"tEXt", text) => texts.add(&key, || Stored::Bytes(text.to_vec())),
        // the method, of which there is one, comes before the text
        (b"zTXt", [_, text @ ..]) => texts.add(&key, || Stored::Packed(text.to_vec(), at)),
        (b"iTXt", [packed, _, rest @ ..]) => {
            // language and translated keyword
            let Some(text) = after_nul(rest).and_then(after_nul) else { return };
            if key == "XML:com.adobe.xmp" {
                texts.add_all(xmp::texts(&charset::guessed(text)));
            } else if *packed == 0 {
                texts.add(&key, || match String::from_utf8(text.to_vec()) {
                    Ok(text) if charset::is_ours(text.as_bytes()) || !charset::looks_like_utf16(text.as_bytes()) => {
                        Stored::Text(text)
                    }
                    Ok(text) => Stored::Bytes(text.into_bytes()),
                    Err(e) => Stored::Bytes(e.into_bytes()),
                });
            } else {
                texts.add(&key, || Stored::Packed(text.to_vec(), at));
            }
        }
        _ => {}
    }
}

/// The keyword that a text chunk begins with, and what comes behind its NUL.
fn keyword(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().take(80).position(|&b| b == 0)?;
    Some((bytes[..end].iter().map(|&b| char::from(b)).collect(), &bytes[end + 1..]))
}

fn after_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|&b| b == 0).map(|end| &bytes[end + 1..])
}

/// The CRC-32 of a chunk's kind and bytes (PNG 1.2, appendix 15).
fn checksum(kind: &[u8], bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    let step = |c: u32, b: &u8| TABLE[usize::from(c as u8 ^ b)] ^ (c >> 8);
    !kind.iter().chain(bytes).fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(checksum(b"IEND", b""), 0xae42_6082);
        assert_eq!(checksum(b"", b"123456789"), 0xcbf4_3926); // the check value of CRC-32
    }
}
