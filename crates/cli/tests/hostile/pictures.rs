//! Pictures whose text is damaged, packed, or not there.

use forge::diffusion_engine::Error as Run;

use crate::{End, Reader::Picture, Row, alone, check, error};

/// Whether it is read, named or refused is for the reader to say; that it ends is what counts.
const EITHER: End = End::Either;
const REFUSED: End = error!(forge::Error::Run(_));
const NO_TEXT: End = error!(forge::Error::Run(Run::NoInfotext { .. }));
const TEXT: &[u8] = b"parameters\0a cat\nSteps: 1, Seed: 1, Size: 16x16";

/// A PNG chunk, whose length and checksum are right.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !bytes.iter().fold(!0u32, |c, &byte| (0..8).fold(c ^ u32::from(byte), step))
}

fn header(width: u32, height: u32, rest: [u8; 5]) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &rest].concat())
}

const RGB: [u8; 5] = [8, 2, 0, 0, 0];

/// One black pixel, stored.
fn pixels() -> Vec<u8> {
    chunk(b"IDAT", b"\x78\x01\x01\x04\x00\xfb\xff\0\0\0\0\0\x04\0\x01")
}

/// A PNG of one pixel with chunks before the pixels and behind them.
fn png(before: &[Vec<u8>], behind: &[Vec<u8>]) -> Vec<u8> {
    let parts = [&[SIGNATURE.to_vec(), header(1, 1, RGB)], before, &[pixels()], behind, &[chunk(b"IEND", b"")]];
    parts.into_iter().flatten().flatten().copied().collect()
}

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Bytes packed as stored blocks would not be a bomb: `count` zeros, deflated by runs, so that a byte becomes a thousand.
fn bomb(count: usize) -> Vec<u8> {
    let mut encoder = png::text_metadata::ZTXtChunk::new("parameters", "a".repeat(count));
    encoder.compress_text().expect("it can be compressed");
    let mut out = Vec::new();
    png::text_metadata::EncodableTextChunk::encode(&encoder, &mut out).expect("a Vec takes every byte");
    // The packed text alone, behind the chunk's length, kind, keyword and method.
    let start = 8 + b"parameters\0\0".len();
    out[start..out.len() - 4].to_vec()
}

fn pngs() -> Vec<Row> {
    let row = |kind: &str, bytes: Vec<u8>, end| Row::new(Picture, format!("a PNG {kind}"), bytes, end);
    let text = |data: &[u8]| png(&[chunk(b"tEXt", data)], &[]);
    let whole = text(TEXT);
    let at = SIGNATURE.len() + header(1, 1, RGB).len();
    let with_length = |length: u32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let left = (whole.len() - at - 12) as u32;
    let packed = bomb(64 << 20);
    let mut rows = vec![
        row("with its text", whole.clone(), End::Taken),
        row("with its text behind", png(&[], &[chunk(b"tEXt", TEXT)]), End::Taken),
        row("of one pixel", png(&[], &[]), NO_TEXT),
        row("of nothing", vec![], REFUSED),
        row("of a signature", SIGNATURE.to_vec(), REFUSED),
        row("of a header", whole[..at].to_vec(), EITHER),
        row("cut in its text", whole[..at + 30].to_vec(), EITHER),
        row("cut behind its text", whole[..at + 12 + TEXT.len()].to_vec(), EITHER),
        row("without an end", whole[..whole.len() - 12].to_vec(), EITHER),
        row("of no width", [SIGNATURE, &header(0, 1, RGB), &pixels()].concat(), REFUSED),
        row("of 2^31 by 2^31", [SIGNATURE, &header(1 << 31, 1 << 31, RGB), &pixels()].concat(), EITHER),
        row("of 2^32 - 1 by 2^32 - 1", [SIGNATURE, &header(u32::MAX, u32::MAX, RGB), &pixels()].concat(), EITHER),
        row(
            "of 65,535 by 65,535",
            [SIGNATURE, &header(65_535, 65_535, RGB), &pixels(), &chunk(b"tEXt", TEXT)].concat(),
            EITHER,
        ),
        row("of no depth", [SIGNATURE, &header(1, 1, [0, 2, 0, 0, 0]), &pixels()].concat(), REFUSED),
        row("of an unknown colour", [SIGNATURE, &header(1, 1, [8, 7, 0, 0, 0]), &pixels()].concat(), REFUSED),
        row("of an unknown compression", [SIGNATURE, &header(1, 1, [8, 2, 9, 0, 0]), &pixels()].concat(), REFUSED),
        row("with two headers", png(&[header(1, 1, RGB)], &[]), EITHER),
        row(
            "whose text has a wrong checksum",
            {
                let mut b = whole.clone();
                b[at + 9 + 20] ^= 1;
                b
            },
            EITHER,
        ),
        row(
            "whose header has a wrong checksum",
            {
                let mut b = whole.clone();
                b[at - 1] ^= 1;
                b
            },
            EITHER,
        ),
        row("of text without a keyword", text(b"\0a"), EITHER),
        row("of text without an end to the keyword", text(b"parameters"), EITHER),
        row("of a keyword of 80 bytes", text(&[&[b'a'; 80][..], b"\0b"].concat()), EITHER),
        row("of an empty text", text(b"parameters\0"), EITHER),
        row("of text twice", png(&[chunk(b"tEXt", TEXT), chunk(b"tEXt", TEXT)], &[]), EITHER),
        row("of text with a NUL", text(b"parameters\0a\0b"), EITHER),
        row("of zTXt of an unknown method", png(&[chunk(b"zTXt", b"parameters\0\x07abc")], &[]), EITHER),
        row("of zTXt of nothing", png(&[chunk(b"zTXt", b"parameters\0")], &[]), EITHER),
        row("of zTXt of noise", png(&[chunk(b"zTXt", b"parameters\0\0\xff\xff\xff\xff\xff")], &[]), EITHER),
        row(
            "of zTXt of 64 MiB",
            png(&[chunk(b"zTXt", &[b"parameters\0\0", packed.as_slice()].concat())], &[]),
            REFUSED,
        ),
        row(
            "of iTXt of 64 MiB",
            png(&[chunk(b"iTXt", &[b"parameters\0\x01\0\0\0", packed.as_slice()].concat())], &[]),
            REFUSED,
        ),
        row(
            "of 64 MiB under another key",
            png(&[chunk(b"zTXt", &[b"other\0\0", packed.as_slice()].concat())], &[]),
            EITHER,
        ),
        row("of iTXt cut in each part", png(&[chunk(b"iTXt", b"parameters\0\0")], &[]), EITHER),
        row("of iTXt of an unknown flag", png(&[chunk(b"iTXt", b"parameters\0\x02\0\0\0a")], &[]), EITHER),
        row("of iTXt that is not UTF-8", png(&[chunk(b"iTXt", b"parameters\0\0\0\0\0\xff\xfe")], &[]), EITHER),
        row("of ten thousand texts", png(&vec![chunk(b"tEXt", b"a\0b"); 10_000], &[]), EITHER),
        row("of a megabyte of text", text(&[b"parameters\0", "a ".repeat(1 << 19).as_bytes()].concat()), EITHER),
        row("of an unknown critical chunk", png(&[chunk(b"ABCD", b"a")], &[]), EITHER),
        row("of a chunk whose name is no letters", png(&[chunk(b"\0\0\0\0", b"a")], &[]), EITHER),
        row("of an animation of 2^32 - 1 frames", png(&[chunk(b"acTL", b"\xff\xff\xff\xff\0\0\0\0")], &[]), EITHER),
        row(
            "of pixels that are noise",
            [SIGNATURE, &header(1, 1, RGB), &chunk(b"IDAT", &[0xff; 64]), &chunk(b"tEXt", TEXT)].concat(),
            EITHER,
        ),
        row("behind a page", [b"<html>".as_slice(), &whole].concat(), REFUSED),
        row("of Exif of nothing", png(&[chunk(b"eXIf", b"")], &[]), EITHER),
    ];
    for (kind, length) in [
        ("0", 0),
        ("1", 1),
        ("one more than there are", left + 1),
        ("2^31", 1 << 31),
        ("2^32 - 2", u32::MAX - 1),
        ("2^32 - 1", u32::MAX),
    ] {
        rows.push(row(&format!("of a text of a length of {kind}"), with_length(length), EITHER));
    }
    rows
}

/// Exif, little-endian, of one directory with these entries: tag, kind, count, value.
fn exif(entries: &[(u16, u16, u32, u32)], behind: &[u8]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    bytes.extend(behind);
    bytes
}

fn others() -> Vec<Row> {
    let row = |kind: &str, bytes: Vec<u8>| Row::new(Picture, kind, bytes, EITHER);
    let exifs = [
        ("of a pointer to itself", exif(&[(0x8769, 4, 1, 8)], &[])),
        ("of a pointer beyond the end", exif(&[(0x8769, 4, 1, u32::MAX)], &[])),
        ("of a comment beyond the end", exif(&[(0x9286, 7, u32::MAX, 8)], &[])),
        ("of a comment of nothing", exif(&[(0x9286, 7, 0, 0)], &[])),
        ("of a comment of seven bytes", exif(&[(0x9286, 7, 7, 26)], b"UNICODE")),
        ("of a comment of an odd length", exif(&[(0x9286, 7, 11, 26)], b"UNICODE\0a\0b")),
        ("of half a surrogate", exif(&[(0x9286, 7, 10, 26)], b"UNICODE\0\0\xd8")),
        ("of a comment of an unknown kind", exif(&[(0x9286, 99, 8, 26)], b"ASCII\0\0\0")),
        ("of 65,535 entries that are not there", [b"II*\0\x08\0\0\0\xff\xff".to_vec(), vec![0; 12]].concat()),
        ("of a directory beyond the end", b"II*\0\xff\xff\xff\xff".to_vec()),
        ("of a directory inside its own header", b"MM\0*\0\0\0\x01".to_vec()),
    ];
    let jpeg = |segments: &[(u8, &[u8])]| {
        let mut bytes = vec![0xff, 0xd8];
        for (marker, data) in segments {
            bytes.extend([0xff, *marker]);
            bytes.extend(((data.len() + 2) as u16).to_be_bytes());
            bytes.extend(*data);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    };
    let webp = |length: u32, chunks: &[(&[u8; 4], u32, &[u8])]| {
        let mut bytes = [b"RIFF", &length.to_le_bytes()[..], b"WEBP"].concat();
        for (kind, length, data) in chunks {
            bytes.extend([*kind, &length.to_le_bytes()[..], data].concat());
        }
        bytes
    };
    let mut rows = vec![
        row("a JPEG of nothing", vec![0xff, 0xd8]),
        row("a JPEG of one byte", vec![0xff]),
        row("a JPEG of a segment of length 0", vec![0xff, 0xd8, 0xff, 0xe1, 0, 0, 0xff, 0xd9]),
        row("a JPEG of a segment of length 1", vec![0xff, 0xd8, 0xff, 0xe1, 0, 1, 0xff, 0xd9]),
        row("a JPEG of a segment beyond the end", vec![0xff, 0xd8, 0xff, 0xe1, 0xff, 0xff, 1]),
        row("a JPEG of a hundred thousand fill bytes", [vec![0xff, 0xd8], vec![0xff; 100_000]].concat()),
        row("a JPEG of a thousand comments", jpeg(&vec![(0xfe, b"Steps: 1".as_slice()); 1000])),
        row("a JPEG without markers", [vec![0xff, 0xd8], vec![0; 1000]].concat()),
        row("a WebP of nothing", webp(4, &[])),
        row("a WebP of a length of 0", webp(0, &[(b"EXIF", 4, b"abcd")])),
        row("a WebP of a length of 2^32 - 1", webp(u32::MAX, &[(b"EXIF", 4, b"abcd")])),
        row("a WebP chunk of a length of 2^32 - 1", webp(12, &[(b"EXIF", u32::MAX, b"abcd")])),
        row("a WebP chunk of a length of 2^32 - 2", webp(12, &[(b"EXIF", u32::MAX - 1, b"abcd")])),
        row("a WebP of an odd chunk at its end", webp(13, &[(b"EXIF", 1, b"a")])),
        row("a WebP of chunks of nothing", webp(80_000, &vec![(b"ABCD", 0, b"".as_slice()); 10_000])),
        row("a RIFF that is no WebP", b"RIFF\x04\0\0\0WAVE".to_vec()),
        row("a GIF", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        row("an AVIF", b"\0\0\0\x1cftypavif\0\0\0\0".to_vec()),
    ];
    for (kind, exif) in exifs {
        rows.push(row(&format!("a PNG of Exif {kind}"), png(&[chunk(b"eXIf", &exif)], &[])));
        rows.push(row(&format!("a JPEG of Exif {kind}"), jpeg(&[(0xe1, &[b"Exif\0\0", exif.as_slice()].concat())])));
        rows.push(row(
            &format!("a WebP of Exif {kind}"),
            webp(4 + 8 + exif.len() as u32, &[(b"EXIF", exif.len() as u32, &exif)]),
        ));
    }
    rows
}

pub(crate) fn rows() -> Vec<Row> {
    [pngs(), others()].into_iter().flatten().collect()
}

#[test]
fn a_picture_gives_its_text_or_an_error() {
    let _alone = alone();
    check(rows());
}

#[test]
fn what_is_packed_beside_the_text_is_not_unpacked() {
    let _alone = alone();
    let profile = chunk(b"iCCP", &[b"p\0\0", bomb(64 << 20).as_slice()].concat());
    let bytes = png(&[profile, chunk(b"tEXt", TEXT)], &[]);
    check(vec![Row::new(Picture, "a PNG of a profile of 64 MiB", bytes, EITHER)]);
}
