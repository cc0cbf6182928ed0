//! Reading pictures takes no more memory than is said before; in a program of its own, as the heap is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    fs::File,
    io::BufWriter,
    path::Path,
    sync::{Mutex, PoisonError},
};

use diffusion_engine::{Error, Image, PictureFormat, Size, read_picture, read_picture_within};
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

const SIDE: usize = 700;

/// Bytes that no format makes less of.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn png(path: &Path, color: png::ColorType, depth: png::BitDepth) {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path).unwrap()), SIDE as u32, SIDE as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let bytes = if depth == png::BitDepth::Sixteen { 2 } else { 1 };
    let pixels = noise(SIDE * SIDE * color.samples() * bytes);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

fn image() -> Image {
    Image { width: SIDE, height: SIDE, pixels: noise(SIDE * SIDE * 3), infotext: "a cat".into() }
}

/// A few tables of decoders, whatever the size.
const TABLES: u64 = 300 << 10;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_picture_takes_no_more_than_is_said_before_it_is_decoded() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let colors = [png::ColorType::Grayscale, png::ColorType::GrayscaleAlpha, png::ColorType::Rgb, png::ColorType::Rgba];
    for color in colors {
        for depth in [png::BitDepth::Eight, png::BitDepth::Sixteen] {
            png(&at(&format!("{color:?}-{depth:?}.png")), color, depth);
        }
    }
    for name in ["a.webp", "scans.jpg"] {
        image().save(at(name)).unwrap();
    }
    for (name, is_progressive) in [("baseline.jpg", false), ("progressive.jpg", true)] {
        let mut encoder = jpeg_encoder::Encoder::new(File::create(at(name)).unwrap(), 95);
        encoder.set_progressive(is_progressive);
        encoder.encode(&noise(SIDE * SIDE * 3), SIDE as u16, SIDE as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    }
    let mut paths: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 12);
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (refused, wasted) = taken(|| read_picture_within(&path, 0));
        let Err(Error::PictureMemory { needed, room: 0, .. }) = refused else { panic!("{name}: {refused:?}") };
        assert!(wasted < TABLES, "{name}: {wasted} before it was refused");
        // That a JPEG comes in several scans is known when all of it is read.
        let needed = match read_picture_within(&path, needed) {
            Err(Error::PictureMemory { needed, .. }) if name == "scans.jpg" => needed,
            _ => needed,
        };
        assert!(matches!(read_picture_within(&path, needed - 1), Err(Error::PictureMemory { .. })), "{name}");
        let (picture, taken) = taken(|| read_picture_within(&path, needed).unwrap().over([255; 3]));
        println!("{name}: {taken} of {needed}");
        assert!(taken <= needed + TABLES, "{name}: {taken} of {needed}");
        assert_eq!(picture, read_picture(&path).unwrap().over([255; 3]), "{name}");
    }
}

#[test]
fn writing_takes_no_more_than_its_format_says() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let image = image();
    let size = Size { width: SIDE, height: SIDE };
    for format in [PictureFormat::Png, PictureFormat::Jpeg { quality: 100 }, PictureFormat::Webp] {
        let (_, taken) = taken(|| image.encode(format, &mut std::io::sink()).unwrap());
        let said = format.writing(size);
        println!("{format:?}: {taken} of {said}");
        assert!(taken <= said + TABLES, "{format:?}: {taken} of {said}");
        assert!(taken >= said * 3 / 4, "{format:?}: {taken} of {said}");
    }
}
