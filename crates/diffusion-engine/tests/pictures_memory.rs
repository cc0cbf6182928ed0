//! Reading pictures takes no more memory than is said before; in a program of its own, as the heap is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    fmt::Debug,
    fs::File,
    io::BufWriter,
    path::Path,
    sync::{Mutex, PoisonError},
};

use diffusion_engine::{Error, Image, Picture, PictureFormat, Raster, Size, read_picture, read_picture_within};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most that some work takes, of what it leaves too.
fn taken<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let left = work();
    (left, (HEAP.peak_usage() - before) as u64)
}

/// Sides of which the last is the first whose noise takes more of a list than a power of two of MiB.
const SIDES: [usize; 3] = [301, 700, 840];

/// Bytes that no format makes less of.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn png(path: &Path, side: usize, color: png::ColorType, depth: png::BitDepth) {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path).unwrap()), side as u32, side as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette(noise(256 * 3));
        encoder.set_trns(noise(256));
    }
    let bytes = if depth == png::BitDepth::Sixteen { 2 } else { 1 };
    // Text that is no pixel is not kept.
    encoder.add_itxt_chunk("words".into(), "w".repeat(4 << 20)).unwrap();
    let pixels = noise(side * side * color.samples() * bytes);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// Exif of a picture that lies on a side.
const EXIF: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

fn webp(path: &Path, side: usize, color: image_webp::ColorType, exif: &[u8]) {
    let mut encoder = image_webp::WebPEncoder::new(BufWriter::new(File::create(path).unwrap()));
    encoder.set_exif_metadata(exif.to_vec());
    let channels = if color == image_webp::ColorType::Rgba8 { 4 } else { 3 };
    encoder.encode(&noise(side * side * channels), side as u32, side as u32, color).unwrap();
}

/// One scan, or several of these two ways.
#[derive(Clone, Copy, PartialEq)]
enum Scans {
    One,
    Progressive,
    /// One colour after the other.
    Colours,
}

fn jpeg(path: &Path, side: usize, color: jpeg_encoder::ColorType, scans: Scans, exif: &[u8]) {
    let mut encoder = jpeg_encoder::Encoder::new(File::create(path).unwrap(), 95);
    encoder.set_progressive(scans == Scans::Progressive);
    encoder.set_optimized_huffman_tables(scans == Scans::Colours);
    if !exif.is_empty() {
        encoder.add_exif_metadata(exif).unwrap();
    }
    let channels = match color {
        jpeg_encoder::ColorType::Luma => 1,
        jpeg_encoder::ColorType::Cmyk => 4,
        _ => 3,
    };
    encoder.encode(&noise(side * side * channels), side as u16, side as u16, color).unwrap();
}

/// A folder with a picture of each kind, whose names say what they are.
fn pictures(side: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    use png::{BitDepth, ColorType};
    for color in [ColorType::Grayscale, ColorType::GrayscaleAlpha, ColorType::Rgb, ColorType::Rgba] {
        for depth in [BitDepth::Eight, BitDepth::Sixteen] {
            png(&at(&format!("{color:?}-{depth:?}.png")), side, color, depth);
        }
    }
    png(&at("palette.png"), side, ColorType::Indexed, BitDepth::Eight);
    webp(&at("colours.webp"), side, image_webp::ColorType::Rgb8, &[]);
    webp(&at("opacity.webp"), side, image_webp::ColorType::Rgba8, &[]);
    webp(&at("turned.webp"), side, image_webp::ColorType::Rgb8, EXIF);
    use jpeg_encoder::ColorType::{Cmyk, Luma, Rgb};
    for (name, color, scans, exif) in [
        ("colours.jpg", Rgb, Scans::One, &[][..]),
        ("turned.jpg", Rgb, Scans::One, EXIF),
        ("grey.jpg", Luma, Scans::One, &[]),
        ("progressive.jpg", Rgb, Scans::Progressive, &[]),
        ("scans.jpg", Rgb, Scans::Colours, EXIF),
        ("ink.jpg", Cmyk, Scans::One, &[]),
        ("ink-progressive.jpg", Cmyk, Scans::Progressive, &[]),
    ] {
        jpeg(&at(name), side, color, scans, exif);
    }
    folder
}

/// A few tables of decoders, whatever the size.
const TABLES: u64 = 300 << 10;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// What each picture takes is what it is refused for where there is less, and not much more.
fn takes_what_it_says<T: Debug>(read: impl Fn(&Path, u64) -> Result<T, Error>, shown: impl Fn(T) -> Raster<3>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for side in SIDES {
        let folder = pictures(side);
        let paths: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(paths.len(), 19);
        for path in paths {
            let name = format!("{side} {}", path.file_name().unwrap().display());
            let (refused, wasted) = taken(|| read(&path, 0));
            let Err(Error::PictureMemory { needed, room: 0, .. }) = refused else { panic!("{name}: {refused:?}") };
            assert!(wasted < TABLES, "{name}: {wasted} before it was refused");
            assert!(matches!(read(&path, needed - 1), Err(Error::PictureMemory { .. })), "{name}");
            let (picture, taken) = taken(|| read(&path, needed).unwrap());
            println!("{name}: {taken} of {needed}");
            assert!(taken <= needed + TABLES, "{name}: {taken} of {needed}");
            assert!(taken >= needed / 4 * 3, "{name}: {taken} of {needed}");
            assert!(shown(picture) == read_picture(&path).unwrap().over([255; 3]), "{name}");
        }
    }
}

#[test]
fn a_picture_takes_no_more_than_is_said_before_it_is_decoded() {
    takes_what_it_says(|path, room| Ok(read_picture_within(path, room)?.over([255; 3])), |picture| picture);
}

#[test]
fn a_picture_with_its_opacity_apart_takes_no_more_than_is_said_before_it_is_decoded() {
    takes_what_it_says(Picture::read_within, |Picture { width, height, pixels, opacity }| {
        let opacity = opacity.unwrap_or_else(|| vec![255; width * height]);
        let mixed = |(&[red, green, blue], opacity): (&[u8; 3], u8)| [red, green, blue, opacity];
        let pixels = pixels.as_chunks::<3>().0.iter().zip(opacity).map(mixed).collect();
        Raster::new(Size { width, height }, pixels).unwrap().over([255; 3])
    });
}

#[test]
#[cfg(unix)]
fn a_pipe_is_read_as_far_as_there_is_room() {
    use std::{io::Write, os::fd::AsRawFd};
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = pictures(700);
    for name in ["Rgb-Eight.png", "opacity.webp", "progressive.jpg"] {
        let path = folder.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let piped = |room: u64| {
            let (from, mut into) = std::io::pipe().unwrap();
            let bytes = bytes.clone();
            let writing = std::thread::spawn(move || drop(into.write_all(&bytes)));
            let place = format!("/dev/fd/{}", from.as_raw_fd());
            let (read, taken) = taken(|| read_picture_within(place, room));
            drop(from);
            writing.join().unwrap();
            (read, taken)
        };
        let (refused, wasted) = piped(1 << 20);
        assert!(matches!(refused, Err(Error::PictureMemory { .. })), "{name}: {refused:?}");
        assert!(wasted < (1 << 20) + TABLES, "{name}: {wasted}");
        let mut needed = 1 << 20;
        while let (Err(Error::PictureMemory { needed: more, .. }), _) = piped(needed) {
            assert!(more > needed, "{name}");
            needed = more;
        }
        let (read, taken) = piped(needed);
        assert_eq!(read.unwrap(), read_picture(&path).unwrap(), "{name}");
        assert!(taken <= needed + TABLES, "{name}: {taken} of {needed}");
    }
}

#[test]
fn writing_takes_no_more_than_its_format_says() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for side in SIDES {
        let image = Image { width: side, height: side, pixels: noise(side * side * 3), infotext: "a cat".into() };
        let size = Size { width: side, height: side };
        for format in [PictureFormat::Png, PictureFormat::Jpeg { quality: 100 }, PictureFormat::Webp] {
            let (_, taken) = taken(|| image.encode(format, &mut std::io::sink()).unwrap());
            let said = format.encoding_bytes(size);
            println!("{side} {format:?}: {taken} of {said}");
            assert!(taken <= said + TABLES, "{side} {format:?}: {taken} of {said}");
            assert!(taken >= said / 2, "{side} {format:?}: {taken} of {said}");
        }
    }
}
