//! Files of pictures against those that Stable Diffusion WebUI saves, which Pillow and piexif wrote.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;

use diffusion_engine::{Image, Likeness, read_infotext};
use serde_json::Value;

/// Each text by its name, with the Exif that piexif makes of it.
fn texts() -> Vec<(String, String, Vec<u8>)> {
    let table: Value =
        serde_json::from_slice(&fs::read(fixtures::path("golden/pictures/texts.json")).unwrap()).unwrap();
    let hex = |text: &str| {
        let pairs = text.as_bytes().as_chunks::<2>().0;
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let row = |(name, row): (&String, &Value)| {
        (name.clone(), row["text"].as_str().unwrap().to_owned(), hex(row["exif"].as_str().unwrap()))
    };
    table.as_object().unwrap().iter().map(row).collect()
}

#[test]
fn pictures_that_a1111_saved_give_their_text_and_their_pixels() {
    let image = Image { width: 2, height: 1, pixels: vec![255, 0, 0, 0, 0, 255], infotext: String::new() };
    for (name, text, _) in texts() {
        for (ending, likeness) in [("png", Likeness::Equal), ("webp", Likeness::Equal), ("jpg", Likeness::Lossy)] {
            let path = fixtures::path("golden/pictures").join(format!("{name}.{ending}"));
            assert_eq!(read_infotext(&path).unwrap(), text, "{}", path.display());
            assert_eq!(image.likeness(&path).unwrap(), likeness, "{}", path.display());
        }
    }
}

#[test]
fn jpeg_and_webp_have_the_exif_that_piexif_writes_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for (name, infotext, exif) in texts() {
        let image = Image { width: 2, height: 1, pixels: vec![255, 0, 0, 0, 0, 255], infotext };
        for (ending, exif) in [("jpg", &exif[..]), ("webp", &exif[6..])] {
            let path = folder.path().join(format!("{name}.{ending}"));
            image.save(&path).unwrap();
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(exif.len()).position(|window| window == exif).expect("the file has piexif's Exif");
            // before it is its length, with the two bytes that hold that in a JPEG and without them in a WebP
            let length: Vec<u8> = match ending {
                "jpg" => (exif.len() as u16 + 2).to_be_bytes().to_vec(),
                _ => (exif.len() as u32).to_le_bytes().to_vec(),
            };
            assert_eq!(&bytes[at - length.len()..at], length, "{ending}");
        }
    }
}
