//! Pictures.

use std::fs;

use crate::tiny::Tiny;

#[test]
fn what_has_no_infotext_is_an_error() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--output", "a.png"]).done();
    let whole = fs::read(tiny.path("a.png")).unwrap();
    tiny.write("cut.png", &whole[..40]);
    tiny.write("text.png", "not a picture");
    tiny.write("empty.png", "");
    tiny.write("bare.png", bare());
    for (file, says) in [
        ("cut.png", "cannot read `cut.png`"),
        ("text.png", "cannot read `text.png`"),
        ("empty.png", "cannot read `empty.png`"),
        ("nowhere.png", "cannot read `nowhere.png`"),
        (".", "cannot read `.`"),
        ("bare.png", "`bare.png` has no `parameters` text"),
    ] {
        tiny.forge(&["info", file]).refused(1, &[says]);
        tiny.forge(&["info", "--json", file]).json();
    }
}

#[test]
fn a_text_that_unpacks_to_gigabytes_is_an_error() {
    // given a picture whose text is 64 MiB of one letter, compressed
    let tiny = Tiny::quick();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    let mut text = png::text_metadata::ITXtChunk::new("parameters", "a".repeat(64 << 20));
    text.compressed = true;
    text.compress_text().unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_text_chunk(&text).unwrap();
    writer.write_image_data(&[0; 3]).unwrap();
    writer.finish().unwrap();
    tiny.write("bomb.png", &bytes);
    // when it is read, then it is refused
    tiny.forge(&["info", "bomb.png"]).refused(1, &["cannot read `bomb.png`"]);
}

/// A picture of one pixel and no text.
fn bare() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&[0; 3])).expect("a Vec takes every byte");
    bytes
}
