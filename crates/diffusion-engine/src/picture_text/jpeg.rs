//! JPEG: Exif and XMP in `APP1`, and comments, before the pixels.

use std::io::{self, Read, Seek};

use super::{Damage, Found, charset, exif, source::Source, stored::Stored, texts::Texts, xmp};

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The keyword before the comment of programs that write a PNG's keyword there too.
const KEYWORD: &[u8] = b"parameters\0";

pub(super) fn walk<R: Read + Seek>(source: &mut Source<R>) -> io::Result<Found> {
    let mut texts = Texts::default();
    let damaged = |texts, what, at| Ok(Found { texts, damage: Some(Damage { what, at }) });
    source.skip(2)?; // the start of the picture
    loop {
        let at = source.at();
        let Some([mark, mut kind]) = source.array()? else {
            return damaged(texts, "the file ends before its pixels", at);
        };
        while mark == 0xff && kind == 0xff {
            // any number of fill bytes
            let Some([next]) = source.array()? else {
                return damaged(texts, "the file ends before its pixels", at);
            };
            kind = next;
        }
        match (mark, kind) {
            (0xff, 0xda | 0xd9) => return Ok(Found { texts, damage: None }), // pixels, or the end
            (0xff, 0x01 | 0xd0..=0xd7) => continue,                          // nothing comes with these
            (0xff, 0x02..) => {}
            _ => return damaged(texts, "no segment of a JPEG", at),
        }
        let Some(length) = source.array()?.map(u16::from_be_bytes) else {
            return damaged(texts, "the file ends within a segment", at);
        };
        let Some(length) = length.checked_sub(2) else { return damaged(texts, "a segment without a length", at) };
        if !matches!(kind, 0xe1 | 0xfe) {
            if !source.skip(length.into())? {
                return damaged(texts, "the file ends within a segment", at);
            }
            continue;
        }
        let Some(bytes) = source.take(length.into())? else {
            return damaged(texts, "the file ends within a text", at);
        };
        if let Some(tiff) = bytes.strip_prefix(EXIF).filter(|_| kind == 0xe1) {
            texts.add_all(exif::texts(tiff));
        } else if let Some(xml) = bytes.strip_prefix(XMP).filter(|_| kind == 0xe1) {
            texts.add_all(xmp::texts(&charset::guessed(xml)));
        } else if kind == 0xfe {
            match bytes.strip_prefix(KEYWORD) {
                Some(text) => texts.add("parameters", || Stored::Bytes(text.to_vec())),
                None => texts.add("comment", || charset::user_comment(&bytes, true)),
            }
        }
    }
}
