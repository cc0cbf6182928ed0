//! Bytes that are text in an encoding that their place does not tell, or tells wrongly.

use super::stored::Stored;

/// Text that should be Latin-1 and is often UTF-8: bytes that are UTF-8 and not ASCII are hardly ever meant as Latin-1.
///
/// This engine writes Latin-1 there, as the PNG standard has it, and its own text says that it is.
pub(super) fn guessed(bytes: &[u8]) -> String {
    let latin = || bytes.iter().map(|&b| char::from(b)).collect::<String>();
    if looks_like_utf16(bytes) && !is_ours(bytes) {
        return unicode(bytes, true);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() || !is_ours(bytes) => text.to_owned(),
        Ok(_) | Err(_) => latin(),
    }
}

/// Whether a text is this engine's own.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    let last = bytes.rsplit(|&b| b == b'\n').next().unwrap_or_default();
    last.windows(MARK.len()).any(|window| window == MARK)
}

const MARK: &[u8] = b", Version: forge ";

/// An Exif `UserComment`: eight bytes that name the encoding, and the text.
///
/// `UNICODE` is UTF-16 in the byte order of the file, by the standard; piexif, and so A1111, always writes the big-endian one, and
/// some write UTF-8. Programs that don't know the eight bytes leave them out.
pub(super) fn user_comment(bytes: &[u8], big_endian: bool) -> Stored {
    match bytes.split_at_checked(8) {
        Some((name, rest)) if name.eq_ignore_ascii_case(b"UNICODE\0") => Stored::Text(unicode(rest, big_endian)),
        Some((b"ASCII\0\0\0", rest)) => Stored::Bytes(trimmed(rest).to_vec()),
        Some((b"JIS\0\0\0\0\0", _)) => Stored::Charset("JIS"),
        Some((b"\0\0\0\0\0\0\0\0", rest)) if looks_like_utf16(rest) => Stored::Text(unicode(rest, big_endian)),
        Some((b"\0\0\0\0\0\0\0\0", rest)) => Stored::Bytes(trimmed(rest).to_vec()),
        _ if looks_like_utf16(bytes) => Stored::Text(unicode(bytes, big_endian)),
        _ => Stored::Bytes(trimmed(bytes).to_vec()),
    }
}

/// UTF-16 as Windows writes it into tags of its own.
pub(super) fn utf16_le(bytes: &[u8]) -> String {
    utf16(bytes, u16::from_le_bytes)
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Whether bytes have the mark of UTF-16, or as many zeros as ASCII has in it.
pub(super) fn looks_like_utf16(bytes: &[u8]) -> bool {
    let zeros = trimmed(bytes).iter().filter(|&&b| b == 0).count();
    bytes.starts_with(b"\xfe\xff") || bytes.starts_with(b"\xff\xfe") || zeros * 4 > bytes.len()
}

/// UTF-16 of either order: as its mark says, or as gives the more ASCII, or as the file has its numbers.
fn unicode(bytes: &[u8], big_endian: bool) -> String {
    // This engine sets no mark: what looks like one is the first character of its prompt.
    let ours = utf16(bytes, u16::from_be_bytes);
    if is_ours(ours.as_bytes()) {
        return ours;
    }
    match bytes {
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        _ => {}
    }
    let plain = trimmed(bytes);
    // Letters that are no ASCII in UTF-16 may be ASCII two by two, but hardly ever a key with its colon.
    if let Ok(text) = std::str::from_utf8(plain)
        && text.contains(": ")
        && !plain.contains(&0)
    {
        return text.to_owned();
    }
    let ascii = |place: usize| bytes.chunks_exact(2).filter(|pair| pair[place] == 0 && pair[1 - place] != 0).count();
    let big = match ascii(0).cmp(&ascii(1)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => big_endian,
    };
    utf16(bytes, if big { u16::from_be_bytes } else { u16::from_le_bytes })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(bytes: &[u8], big_endian: bool) -> String {
        match user_comment(bytes, big_endian) {
            Stored::Text(text) => text,
            Stored::Bytes(bytes) => guessed(&bytes),
            Stored::Packed(..) | Stored::TooLong | Stored::Charset(_) => panic!("a comment that is read"),
        }
    }

    fn be(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn utf8_is_read_where_latin_1_should_be_and_latin_1_stays() {
        assert_eq!(guessed("一只猫 café".as_bytes()), "一只猫 café");
        assert_eq!(guessed(b"caf\xe9"), "café");
        assert_eq!(guessed(b"plain"), "plain");
        for text in ["a cat, Löwe", "獅子\nSteps: 1, Seed: 5"] {
            assert_eq!([guessed(&be(text)), guessed(&le(text))], [text; 2]);
            assert_eq!(guessed(&[b"\xff\xfe", &le(text)[..]].concat()), text);
        }
        assert_eq!(guessed(b"\xff\xfe\nSteps: 1, Version: forge 0.1.0"), "ÿþ\nSteps: 1, Version: forge 0.1.0");
        // what this engine writes is Latin-1, even where it could be UTF-8
        assert_eq!(guessed(b"\xc3\xa9\nSteps: 1, Version: forge 0.1.0"), "Ã©\nSteps: 1, Version: forge 0.1.0");
        assert_eq!(guessed(b"\xc3\xa9\nSteps: 1, Version: v1.10.1"), "é\nSteps: 1, Version: v1.10.1");
    }

    #[test]
    fn utf16_is_read_in_the_order_that_it_has_whatever_the_file_says() {
        for text in ["a cat, Löwe", "獅子 Steps: 1", "🦉\n1", "é"] {
            for big in [true, false] {
                assert_eq!(comment(&[b"Unicode\0\xfe\xff", &be(text)[..]].concat(), big), text);
                assert_eq!(comment(&[b"UNICODE\0", &be(text)[..]].concat(), big || text == "é"), text);
                assert_eq!(comment(&[b"UNICODE\0", &le(text)[..]].concat(), big && text != "é"), text);
                assert_eq!(comment(&[b"UNICODE\0\xfe\xff", &be(text)[..]].concat(), big), text);
                assert_eq!(comment(&[b"UNICODE\0\xff\xfe", &le(text)[..]].concat(), big), text);
            }
        }
        // without an ASCII letter the file's order is all there is
        assert_eq!(comment(&[b"UNICODE\0", &be("獅子")[..]].concat(), true), "獅子");
        assert_eq!(comment(&[b"UNICODE\0", &le("獅子")[..]].concat(), false), "獅子");
    }

    #[test]
    fn a_comment_may_be_plain_or_lack_its_encoding() {
        assert_eq!(comment(b"ASCII\0\0\0a cat\0", true), "a cat");
        assert_eq!(comment("ASCII\0\0\0ein Löwe".as_bytes(), true), "ein Löwe");
        assert_eq!(comment("UNICODE\0ein Löwe\nSteps: 1".as_bytes(), true), "ein Löwe\nSteps: 1");
        assert_eq!(comment(b"\0\0\0\0\0\0\0\0a cat", true), "a cat");
        assert_eq!(comment(&[&[0; 8], &be("a cat")[..]].concat(), false), "a cat");
        assert_eq!(comment(b"a cat, Steps: 1", true), "a cat, Steps: 1");
        assert_eq!(comment(&le("a cat"), true), "a cat");
        assert_eq!(comment(b"", true), "");
        assert!(matches!(user_comment(b"JIS\0\0\0\0\0abc", true), Stored::Charset("JIS")));
    }
}
