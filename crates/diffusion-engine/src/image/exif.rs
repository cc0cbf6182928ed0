//! Exif as A1111 and its relatives write it, by piexif: a TIFF with nothing in it but a `UserComment`.

/// Bytes before the text.
pub(super) const HEAD: usize = 48;

/// A TIFF whose `UserComment` is a text, in big-endian UTF-16 as piexif writes it whatever the byte order of the file.
pub(super) fn user_comment(text: &str) -> Vec<u8> {
    let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let length = u32::try_from(text.len() + 8).unwrap_or(u32::MAX).to_be_bytes();
    let parts: [&[u8]; 7] = [
        b"MM\0*\0\0\0\x08",                          // big-endian; the first directory is here
        b"\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a", // of one entry: a pointer to Exif's own directory
        b"\0\0\0\0",                                 // and no directory behind it
        b"\0\x01\x92\x86\0\x07",                     // of one entry too: the comment
        &length,
        b"\0\0\0\x28UNICODE\0",
        &text,
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_as_long_as_it_says() {
        assert_eq!(user_comment("").len(), HEAD);
    }
}
