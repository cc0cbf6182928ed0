use std::{fs, io::Cursor, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::Image;

const TEXT: &str =
    "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768";

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |c, b| {
        (0..8).fold(c ^ u32::from(*b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

fn chunk(kind: &[u8], bytes: &[u8]) -> Vec<u8> {
    let body = [kind, bytes].concat();
    [&(bytes.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

/// A PNG of one pixel with some chunks between its header and its pixels.
fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    let pixels = chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0, 0, 0, 4, 0, 1]);
    [b"\x89PNG\r\n\x1a\n", &header[..], &chunks.concat(), &pixels, &chunk(b"IEND", b"")].concat()
}

fn text(key: &str, bytes: &[u8]) -> Vec<u8> {
    chunk(b"tEXt", &[key.as_bytes(), b"\0", bytes].concat())
}

fn jpeg(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let segment =
        |(kind, bytes): &(u8, Vec<u8>)| [&[0xff, *kind][..], &(bytes.len() as u16 + 2).to_be_bytes(), bytes].concat();
    let segments: Vec<u8> = segments.iter().flat_map(segment).collect();
    [&b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"[..], &segments, b"\xff\xda\0\x02pixels\xff\xd9"]
        .concat()
}

fn webp(chunks: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let chunk = |(kind, bytes): &(&[u8], Vec<u8>)| {
        [kind, &(bytes.len() as u32).to_le_bytes()[..], bytes, &[0][..bytes.len() % 2]].concat()
    };
    let chunks: Vec<u8> = chunks.iter().flat_map(chunk).collect();
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
}

/// A TIFF directory with one tag of bytes, in the Exif directory or in the first.
fn tiff(tag: u16, value: &[u8], big: bool, nested: bool) -> Vec<u8> {
    let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let whole = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&half(1)[..], &half(tag), &half(kind), &whole(count), &whole(value), &whole(0)].concat()
    };
    let head = [if big { &b"MM\0*"[..] } else { b"II*\0" }, &whole(8)].concat();
    if nested {
        [head, entry(0x8769, 4, 1, 26), entry(tag, 7, value.len() as u32, 44), value.to_vec()].concat()
    } else {
        [head, entry(tag, 2, value.len() as u32, 26), value.to_vec()].concat()
    }
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let unit = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
    [b"UNICODE\0".to_vec(), text.encode_utf16().flat_map(unit).collect()].concat()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("a.png");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, bytes: &[u8]) -> Result<String, Error> {
        read_infotext(&self.file(bytes))
    }
}

#[test]
fn the_infotext_comes_back_from_the_file() {
    let folder = Folder::new();
    let path = folder.0.path().join("deep/er/a.png");
    let save = |text: &str| {
        let pixels = vec![255, 0, 0, 0, 0, 255];
        Image { width: 2, height: 1, pixels, infotext: text.into() }.save(&path).unwrap();
        read_infotext(&path)
    };
    for text in ["a café\nSteps: 1", "ein Löwe, 獅子\nSteps: 1", "\u{0}odd", "Ã©\nSteps: 1, Version: forge 0.1.0"]
    {
        assert_eq!(save(text).unwrap(), text);
    }
    assert!(matches!(save(""), Err(Error::NoInfotext { .. })));
}

#[test]
fn a_png_has_its_text_in_any_chunk_before_or_behind_the_pixels() {
    let folder = Folder::new();
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(TEXT.as_bytes(), 6);
    let exif = chunk(b"eXIf", &tiff(0x9286, &utf16(TEXT, false), false, true));
    for chunk in [
        text("parameters", TEXT.as_bytes()),
        text("Parameters", TEXT.as_bytes()),
        chunk(b"zTXt", &[b"parameters\0\0", &packed[..]].concat()),
        chunk(b"iTXt", &[b"parameters\0\0\0\0\0", TEXT.as_bytes()].concat()),
        chunk(b"iTXt", &[b"parameters\0\x01\0en\0Parameter\0", &packed[..]].concat()),
        exif,
        chunk(b"eXIf", &[b"Exif\0\0", &tiff(0x9286, &utf16(TEXT, true), true, true)[..]].concat()),
    ] {
        assert_eq!(folder.read(&png(std::slice::from_ref(&chunk))).unwrap(), TEXT);
        let bare = png(&[]);
        let end = bare.len() - 12;
        assert_eq!(folder.read(&[&bare[..end], &chunk, &bare[end..]].concat()).unwrap(), TEXT);
    }
    assert_eq!(folder.read(&png(&[text("parameters", "一只猫 café".as_bytes())])).unwrap(), "一只猫 café");
    assert_eq!(folder.read(&png(&[text("parameters", b"caf\xe9")])).unwrap(), "café");
}

#[test]
fn a_jpeg_or_webp_has_it_in_exif_of_either_order_xmp_or_a_comment() {
    let folder = Folder::new();
    for big_file in [true, false] {
        for big_text in [true, false] {
            let tiff = tiff(0x9286, &utf16(TEXT, big_text), big_file, true);
            assert_eq!(folder.read(&jpeg(&[(0xe1, [b"Exif\0\0", &tiff[..]].concat())])).unwrap(), TEXT);
            assert_eq!(folder.read(&webp(&[(b"VP8 ", vec![1, 2, 3]), (b"EXIF", tiff.clone())])).unwrap(), TEXT);
            assert_eq!(folder.read(&webp(&[(b"EXIF", [b"Exif\0\0", &tiff[..]].concat())])).unwrap(), TEXT);
        }
        // in the first directory and without an encoding, as Fooocus has it
        let plain = tiff(0x9286, TEXT.as_bytes(), big_file, false);
        assert_eq!(folder.read(&webp(&[(b"EXIF", plain)])).unwrap(), TEXT);
        let graph = "{\"3\": {\"class_type\": \"KSampler\", \"inputs\": {}}}";
        let comfy = tiff(0x0110, format!("prompt:{graph}\0").as_bytes(), big_file, false);
        assert_eq!(folder.read(&webp(&[(b"EXIF", comfy)])).unwrap(), graph);
    }
    let xmp = format!("<x><exif:UserComment><rdf:Alt><rdf:li>{TEXT}</rdf:li></rdf:Alt></exif:UserComment></x>");
    let app1 = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat();
    assert_eq!(folder.read(&jpeg(&[(0xe1, app1)])).unwrap(), TEXT);
    assert_eq!(folder.read(&webp(&[(b"XMP ", xmp.into_bytes())])).unwrap(), TEXT);
    assert_eq!(folder.read(&jpeg(&[(0xfe, TEXT.into())])).unwrap(), TEXT);
    assert_eq!(folder.read(&jpeg(&[(0xfe, format!("parameters\0{TEXT}").into())])).unwrap(), TEXT);
    let jis = tiff(0x9286, b"JIS\0\0\0\0\0abc", false, true);
    assert!(matches!(folder.read(&webp(&[(b"EXIF", jis)])), Err(Error::TextCharset { charset: "JIS", .. })));
    // a camera's words are not how a picture was made
    for bare in [jpeg(&[]), webp(&[]), jpeg(&[(0xfe, b"Created with GIMP".to_vec())])] {
        assert!(matches!(folder.read(&bare), Err(Error::NoInfotext { .. })));
    }
}

#[test]
fn the_text_that_counts_is_the_one_that_says_most() {
    let folder = Folder::new();
    let graph = "{\"3\": {\"class_type\": \"KSampler\", \"inputs\": {}}}";
    let workflow = "{\"nodes\": [], \"links\": []}";
    let novel = "{\"steps\": 28, \"uc\": \"bad\", \"seed\": 1}";
    for (texts, expected) in [
        (vec![("workflow", workflow), ("prompt", graph), ("parameters", TEXT)], TEXT),
        (vec![("workflow", workflow), ("prompt", graph)], graph),
        (vec![("workflow", workflow)], workflow),
        (vec![("Comment", "made with love"), ("prompt", graph)], graph),
        (vec![("Description", TEXT)], TEXT),
        (vec![("Title", "AI"), ("Description", "1girl"), ("Comment", novel)], &format!("1girl\n{novel}")),
        (vec![("Dream", "\"a\" -s 5 -S 1"), ("sd-metadata", novel)], novel),
        (vec![("parameters", ""), ("prompt", graph)], ""),
    ] {
        let chunks: Vec<_> = texts.iter().map(|(key, value)| text(key, value.as_bytes())).collect();
        assert_eq!(folder.read(&png(&chunks)).unwrap(), expected);
    }
    for (key, value) in
        [("Description", "a photo"), ("Comment", "Created with GIMP"), ("Software", TEXT), ("Title", "x")]
    {
        assert!(matches!(folder.read(&png(&[text(key, value.as_bytes())])), Err(Error::NoInfotext { .. })), "{key}");
    }
    let easy = [("prompt", "a cat"), ("seed", "5"), ("num_inference_steps", "20"), ("width", "512")];
    let chunks: Vec<_> = easy.iter().map(|(key, value)| text(key, value.as_bytes())).collect();
    let read = parse(&folder.read(&png(&chunks)).unwrap(), &[]).request(&crate::Catalog::builtin()).unwrap();
    assert_eq!((read.pass.prompt.as_str(), read.seed, read.pass.steps, read.pass.size.width), ("a cat", 5, 20, 512));
}

#[test]
fn a_damaged_file_gives_the_text_that_stands_before_the_damage() {
    let folder = Folder::new();
    let whole = png(&[text("parameters", TEXT.as_bytes())]);
    let end = 33 + 12 + 11 + TEXT.len(); // signature, header, text
    for cut in 0..whole.len() {
        let read = folder.read(&whole[..cut]);
        if cut >= end {
            assert_eq!(read.unwrap(), TEXT, "{cut}");
        } else {
            let error = read.unwrap_err();
            let is_damage =
                matches!(error, Error::DamagedPicture { .. } | Error::NotAPicture { .. } | Error::Read { .. });
            assert!(is_damage, "{cut}: {error}");
        }
    }
    // a checksum that is wrong in the pixels, and one that is wrong in the text
    let mut other = whole.clone();
    other[end + 20] ^= 1;
    assert_eq!(folder.read(&other).unwrap(), TEXT);
    let mut wrong = whole.clone();
    wrong[60] ^= 1;
    assert!(matches!(folder.read(&wrong), Err(Error::DamagedPicture { at: 33, .. })));
    let tiff = tiff(0x9286, &utf16(TEXT, true), false, true);
    let whole = jpeg(&[(0xe1, [b"Exif\0\0", &tiff[..]].concat()), (0xe2, vec![0; 500])]);
    for cut in [whole.len() - 20, whole.len() - 300] {
        assert_eq!(folder.read(&whole[..cut]).unwrap(), TEXT);
    }
    let whole = webp(&[(b"EXIF", tiff), (b"VP8 ", vec![0; 500])]);
    assert_eq!(folder.read(&whole[..whole.len() - 300]).unwrap(), TEXT);
}

#[test]
fn a_text_that_unpacks_to_gigabytes_or_claims_them_is_an_error() {
    let folder = Folder::new();
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'a'; 64 << 20], 6);
    let packed = png(&[chunk(b"zTXt", &[b"parameters\0\0", &bomb[..]].concat())]);
    assert!(matches!(folder.read(&packed), Err(Error::TextTooLong { .. })));
    assert!(matches!(folder.read(&png(&[text("parameters", &vec![b'a'; 3 << 20])])), Err(Error::TextTooLong { .. })));
    let broken = png(&[chunk(b"zTXt", b"parameters\0\0nonsense")]);
    assert!(matches!(folder.read(&broken), Err(Error::DamagedPicture { .. })));
    let mut claim = png(&[]);
    claim[33..37].copy_from_slice(&0xffff_fff0u32.to_be_bytes());
    assert!(matches!(folder.read(&claim), Err(Error::DamagedPicture { .. })));
    // a long text that is not the one that is wanted keeps nobody from that
    let other = png(&[text("workflow", &vec![b'a'; 3 << 20]), text("parameters", TEXT.as_bytes())]);
    assert_eq!(folder.read(&other).unwrap(), TEXT);
}

#[test]
fn a_directory_that_points_to_itself_ends() {
    let folder = Folder::new();
    let mut tiff = tiff(0x8769, b"abcdefgh", false, true);
    tiff[18..22].copy_from_slice(&8u32.to_le_bytes());
    assert!(matches!(folder.read(&webp(&[(b"EXIF", tiff)])), Err(Error::NoInfotext { .. })));
    let endless = [b"II*\0\x08\0\0\0\xff\xff", &[0x69, 0x87, 4, 0, 1, 0, 0, 0, 8, 0, 0, 0].repeat(65_535)[..]].concat();
    assert!(matches!(folder.read(&webp(&[(b"EXIF", endless)])), Err(Error::NoInfotext { .. })));
}

#[test]
fn other_formats_are_named() {
    let folder = Folder::new();
    for (bytes, word) in [
        (&b"GIF89a\x01\0\x01\0\0\0\0;"[..], "a GIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF picture"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "an HEIF picture"),
        (b"\0\0\0\x1cftypisom\0\0\0\0isommp42", "an MP4 video"),
        (b"\xff\x0a\0\0\0\0\0\0", "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"II*\0\x08\0\0\0\0\0", "a TIFF picture"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "a BMP picture"),
    ] {
        let error = folder.read(bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for bytes in [&b"not a picture"[..], b"RIFF\0\0\0\0WAVE", b"\x89PNG", b"{}"] {
        assert!(matches!(folder.read(bytes), Err(Error::NotAPicture { .. })));
    }
    assert!(matches!(folder.read(b""), Err(Error::Read { .. })));
    assert!(matches!(read_infotext(folder.0.path()), Err(Error::Read { .. })));
    assert!(matches!(read_infotext(&folder.0.path().join("nowhere")), Err(Error::Read { .. })));
    #[cfg(target_os = "linux")]
    assert!(matches!(read_infotext(Path::new("/proc/self/cmdline")), Err(Error::Read { .. })));
}

/// Walks bytes as each kind of picture, whatever they are.
fn walk_all(bytes: &[u8]) {
    for walk in [png::walk, jpeg::walk, webp::walk] {
        let mut source = Source::new(Cursor::new(bytes.to_vec())).unwrap();
        let mut found = walk(&mut source).unwrap();
        let _ = chosen(&mut found.texts);
    }
    let _ = exif::texts(bytes);
    let _ = xmp::texts(&String::from_utf8_lossy(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_of_this_engine_comes_back_from_every_format(
        prompt in "(?s)(\u{feff}|\u{fffe}|\u{0}{60}|\u{e9}|\n|, Version: forge 1|Steps: 1, |\\PC|.){0,6}"
    ) {
        let folder = Folder::new();
        let text = format!("{prompt}\nSteps: 1, Sampler: Euler, Version: forge 0.1.0");
        for name in ["a.png", "a.jpg", "a.webp"] {
            let path = folder.0.path().join(name);
            Image { width: 1, height: 1, pixels: vec![0; 3], infotext: text.clone() }.save(&path).unwrap();
            prop_assert_eq!(read_infotext(&path).unwrap(), &text[..], "{}", name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        walk_all(&bytes);
    }

    #[test]
    fn no_change_of_a_picture_makes_a_reader_panic(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let exif = tiff(0x9286, &utf16(TEXT, true), which == 1, true);
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(TEXT.as_bytes(), 6);
        let mut bytes = match which {
            0 => png(&[
                chunk(b"zTXt", &[b"parameters\0\0", &packed[..]].concat()),
                chunk(b"iTXt", &[b"Comment\0\x01\0en\0Parameter\0", &packed[..]].concat()),
                chunk(b"eXIf", &exif),
            ]),
            1 => jpeg(&[(0xe1, [b"Exif\0\0", &exif[..]].concat()), (0xfe, TEXT.into())]),
            _ => webp(&[(b"EXIF", exif), (b"XMP ", b"<exif:UserComment>a &amp; b</exif:UserComment>".to_vec())]),
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        walk_all(&bytes);
        walk_all(&bytes[..cut.index(bytes.len())]);
    }
}

#[test]
fn what_is_no_file_is_called_what_it_is() {
    let said = |path: &str| match read_infotext(std::path::Path::new(path)) {
        Err(Error::Read { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(said("."), "it is a folder");
    #[cfg(unix)]
    assert!(said("/dev/null").contains("a device"));
}

#[test]
fn an_empty_text_does_not_hide_the_one_behind_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), png(&[text("parameters", b""), text("parameters", b"a cat"), text("parameters", b"b")]))
        .unwrap();
    assert_eq!(read_infotext(file.path()).unwrap(), "a cat");
}
