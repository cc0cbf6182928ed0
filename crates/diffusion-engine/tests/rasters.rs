//! Picture files as Pillow reads them, and what is wrong with them as errors.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{fs, path::Path};

use diffusion_engine::{Error, Raster, Size, read_picture};
use fixtures::{Golden, path};

/// How far a lossy file's colour may be from what another decoder makes of it.
const LOSSY: f32 = 3.0;

fn folder() -> std::path::PathBuf {
    path("golden/rasters")
}

fn names() -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".safetensors")).collect()
}

#[test]
fn every_kind_of_file_is_decoded_as_pillow_does_it() {
    let golden = Golden::open("rasters/expected.safetensors");
    assert_eq!(names().len(), 18);
    for name in names() {
        let found = read_picture(folder().join(&name)).unwrap().over([255; 3]);
        let (expected, shape) = (golden.floats(&format!("files.{name}")), golden.shape(&format!("files.{name}")));
        assert_eq!(found.size(), Size { width: shape[1], height: shape[0] }, "{name}");
        let off = found.pixels().as_flattened().iter().zip(&expected).map(|(&a, b)| (f32::from(a) - b).abs());
        let allowed = if name.ends_with(".jpg") { LOSSY } else { 0.0 };
        let worst = off.fold(0.0, f32::max);
        assert!(worst <= allowed, "{name}: {worst}");
    }
}

fn read(folder: &Path, bytes: &[u8]) -> Result<Raster<4>, Error> {
    let path = folder.join("damaged");
    fs::write(&path, bytes).unwrap();
    read_picture(path)
}

#[test]
fn a_picture_that_is_cut_off_or_damaged_anywhere_is_an_error_or_a_picture() {
    let scratch = tempfile::tempdir().unwrap();
    for name in names() {
        let whole = fs::read(folder().join(&name)).unwrap();
        for end in (0..whole.len() - 12).step_by(37) {
            let cut = read(scratch.path(), &whole[..end]);
            assert!(matches!(cut, Err(Error::Pixels { .. } | Error::NotAPicture { .. })), "{name} {end}");
        }
        for at in (0..whole.len()).step_by(11) {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                // no panic, and no more memory than a picture may take
                drop(read(scratch.path(), &bytes));
            }
        }
    }
}

#[test]
fn a_picture_of_more_pixels_than_are_decoded_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = fs::read(folder().join("rgb.png")).unwrap();
    for [width, height] in [[1u32 << 30, 1], [0, 1], [16_384, 16_384], [20_000, 2]] {
        let mut bytes = whole.clone();
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        assert!(matches!(read(scratch.path(), &bytes), Err(Error::Pixels { .. })), "{width} {height}");
    }
    for (bytes, is_picture) in [(&b"GIF89a"[..], false), (b"", false), (b"\xff\xd8\xff", true)] {
        let error = read(scratch.path(), bytes).unwrap_err();
        assert_eq!(matches!(error, Error::Pixels { .. }), is_picture, "{error}");
    }
    assert!(matches!(read_picture(scratch.path().join("none")), Err(Error::Read { .. })));
    assert!(matches!(read_picture(scratch.path()), Err(Error::Read { .. })));
}
