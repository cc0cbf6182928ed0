use crate::tiff::orientation;

/// What a JPEG says of itself before its pixels (ITU T.81, annex B).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    pub(super) width: u16,
    pub(super) height: u16,
    /// Colours of each pixel.
    pub(super) components: u8,
    /// Whether no pixel is known before the last of several scans: the file is progressive, or has one colour after the other.
    pub(super) comes_in_scans: bool,
    /// As Exif has it, from 1.
    pub(super) orientation: u16,
}

impl JpegHeader {
    /// Of a file's first bytes; `None` where they end before the first scan, or are no segments.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        /// What an Exif segment begins with.
        const EXIF: &[u8] = b"Exif\0\0";
        let (mut rest, mut frame, mut turned) = (bytes.get(2..)?, None, 1);
        loop {
            let [0xff, mark, behind @ ..] = rest else { return None };
            // The byte before a mark may be repeated, and some marks stand alone.
            if *mark == 0xff || matches!(mark, 0x01 | 0xd0..=0xd8) {
                rest = if *mark == 0xff { rest.get(1..)? } else { behind };
                continue;
            }
            let [high, low, ..] = behind else { return None };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let segment = behind.get(2..length)?;
            match (mark, segment) {
                // Frames: others of these are tables, an extension, and conditions of arithmetic coding.
                (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, [_, sides @ ..]) => {
                    let [a, b, c, d, components, ..] = *sides else { return None };
                    frame = Some((mark % 4 == 2, [c, d], [a, b], components));
                }
                (0xe1, _) if segment.starts_with(EXIF) => turned = orientation(&segment[EXIF.len()..]),
                (0xda, [of_scan, ..]) => {
                    let (is_progressive, width, height, components) = frame?;
                    return Some(Self {
                        width: u16::from_be_bytes(width),
                        height: u16::from_be_bytes(height),
                        components,
                        comes_in_scans: is_progressive || *of_scan < components,
                        orientation: turned,
                    });
                }
                _ => {}
            }
            rest = behind.get(length..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_past_whatever_stands_in_it_and_never_beyond_its_end() {
        // given two marks without a segment, a comment with the marks of a scan in it, Exif of a picture on its side, and a frame
        let exif =
            [&b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"[..]].concat();
        let head = [&b"\xff\xd8\xff\xff\xd0\xff\xfe\x00\x08\xff\xda\x00\x02\xff\xd9"[..], &exif].concat();
        let file = |frame: u8, of_scan: u8| {
            let frame = [0xff, frame, 0, 17, 8, 1, 2, 3, 4, 3, 1, 0, 0, 2, 0, 0, 3, 0, 0];
            let scan = [0xff, 0xda, 0, 12, of_scan, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            [&head[..], &frame, &scan, &[1, 2, 3, 0xff, 0xd9]].concat()
        };
        for (frame, of_scan, comes_in_scans) in [(0xc0, 3, false), (0xc1, 1, true), (0xc2, 3, true), (0xc0, 1, true)] {
            let whole = file(frame, of_scan);
            let read = JpegHeader::of(&whole);
            let expected = JpegHeader { width: 772, height: 258, components: 3, comes_in_scans, orientation: 6 };
            assert_eq!(read, Some(expected), "{frame:x} {of_scan}");
            for end in 0..whole.len() - 5 {
                assert_eq!(JpegHeader::of(&whole[..end]), None, "{end}");
            }
        }
        // what has no frame before its scan, or a segment shorter than its own length, is none
        assert_eq!(JpegHeader::of(b"\xff\xd8\xff\xda\x00\x03\x01"), None);
        assert_eq!(JpegHeader::of(b"\xff\xd8\xff\xe0\x00\x01\x01"), None);
    }
}
