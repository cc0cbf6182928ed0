//! Picture files: PNG, JPEG and WebP, whatever is wrong with them an error.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::Raster;
use crate::{Error, Size, tiff::orientation};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 256 << 20;

/// Bytes that tell what a file is.
const HEAD: u64 = 16;

/// Bytes beside the pixels that a WebP's decoder may take.
const WEBP_LIMIT: usize = 1 << 29;

/// The most pixels that are decoded: a square of 8192.
const MOST: usize = 1 << 26;

/// The pixels of a picture file, turned as its Exif says a camera was held. Of an animated PNG it is the first picture.
///
/// # Errors
/// [`Error::Read`] for a file that can't be read, [`Error::NotAPicture`] for what is no PNG, JPEG or WebP, and [`Error::Pixels`] for a
/// picture that is damaged, is longer than 256 MiB, or has more than 2²⁶ pixels or sides above [`Size::MAX`].
pub fn read_picture(path: impl AsRef<Path>) -> Result<Raster<4>, Error> {
    Ok(read_turned(path.as_ref())?.0)
}

/// The same, and whether its file knows no opacity.
pub(crate) fn read_turned(path: &Path) -> Result<(Raster<4>, bool), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let mut bytes = Vec::new();
    // What is no picture is told for that however long it is.
    file.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(read)?;
    let decoded = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => png,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp,
        [0xff, 0xd8, 0xff, ..] => jpeg,
        _ => return Err(Error::NotAPicture { path: path.to_owned() }),
    };
    if length <= LONGEST {
        file.take(LONGEST + 1 - HEAD).read_to_end(&mut bytes).map_err(read)?;
    }
    let decoded = match length.max(bytes.len() as u64) <= LONGEST {
        true => decoded(&bytes),
        false => Err(wrong("it is longer than 256 MiB")),
    };
    let Decoded { raster, orientation, is_opaque } =
        decoded.map_err(|source| Error::Pixels { path: path.to_owned(), source })?;
    Ok((turned(raster, orientation), is_opaque))
}

struct Decoded {
    raster: Raster<4>,
    /// As Exif has it, from 1.
    orientation: u16,
    is_opaque: bool,
}

impl Decoded {
    /// Of pixels of 1 (grey), 2 (grey, opacity), 3 or 4 bytes.
    fn of(size: Size, bytes: &[u8], channels: usize, exif: Option<&[u8]>) -> io::Result<Self> {
        let pixel = |bytes: &[u8]| match *bytes {
            [grey] => [grey, grey, grey, 255],
            [grey, opacity] => [grey, grey, grey, opacity],
            [r, g, b] => [r, g, b, 255],
            [r, g, b, a, ..] => [r, g, b, a],
            [] => [0; 4],
        };
        let pixels = bytes.chunks_exact(channels.max(1)).map(pixel).collect();
        let raster = Raster::new(size, pixels).ok_or_else(|| wrong("it has another number of pixels than it says"))?;
        Ok(Self { raster, orientation: exif.map_or(1, orientation), is_opaque: matches!(channels, 1 | 3) })
    }
}

fn wrong(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The size that a file says, if it is not too large to be decoded.
fn checked(width: usize, height: usize) -> io::Result<Size> {
    let sides = 1..=Size::MAX;
    if !sides.contains(&width) || !sides.contains(&height) || width * height > MOST {
        let found = format!("{width} x {height} pixels are more than sides of {} and {MOST} in all", Size::MAX);
        return Err(wrong(found));
    }
    Ok(Size { width, height })
}

fn png(bytes: &[u8]) -> io::Result<Decoded> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // 16 bits become 8, and palettes colours.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let size = checked(reader.info().width as usize, reader.info().height as usize)?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or(io::ErrorKind::InvalidData)?];
    let frame = reader.next_frame(&mut pixels)?;
    let is_whole = (frame.width as usize, frame.height as usize) == (size.width, size.height);
    if !is_whole {
        return Err(wrong("its first picture is smaller than itself"));
    }
    pixels.truncate(frame.buffer_size());
    let exif = reader.info().exif_metadata.clone();
    Decoded::of(size, &pixels, frame.color_type.samples(), exif.as_deref())
}

fn webp(bytes: &[u8]) -> io::Result<Decoded> {
    let fault = |error| match error {
        image_webp::DecodingError::IoError(error) => error,
        other => wrong(other),
    };
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    decoder.set_memory_limit(WEBP_LIMIT);
    if decoder.is_animated() {
        return Err(wrong("it is an animation"));
    }
    let (width, height) = decoder.dimensions();
    let size = checked(width as usize, height as usize)?;
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or(io::ErrorKind::InvalidData)?];
    decoder.read_image(&mut pixels).map_err(fault)?;
    let exif = decoder.exif_metadata().map_err(fault)?;
    Decoded::of(size, &pixels, if decoder.has_alpha() { 4 } else { 3 }, exif.as_deref())
}

fn jpeg(bytes: &[u8]) -> io::Result<Decoded> {
    // A decoder fills up with grey what is cut off.
    let is_whole = bytes.windows(2).rposition(|mark| mark == END).is_some_and(|end| {
        let scan = bytes.windows(2).rposition(|mark| mark == SCAN);
        scan.is_some_and(|scan| scan < end)
    });
    if !is_whole {
        return Err(wrong("it ends within its pixels"));
    }
    let options = DecoderOptions::default()
        .set_max_width(Size::MAX)
        .set_max_height(Size::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let fault = |error: zune_jpeg::errors::DecodeErrors| wrong(error.to_string());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fault)?;
    let info = decoder.info().ok_or_else(|| wrong("it has no size"))?;
    let size = checked(info.width.into(), info.height.into())?;
    let pixels = decoder.decode().map_err(fault)?;
    let exif = decoder.exif().cloned();
    Decoded::of(size, &pixels, 3, exif.as_deref())
}

/// The marks of a JPEG before its pixels and behind them.
const SCAN: [u8; 2] = [0xff, 0xda];
const END: [u8; 2] = [0xff, 0xd9];

/// A picture as it is meant to be seen, by Exif's number for how it lies: 2 and 4 are mirrored, 3 stands on its head, 5 to 8 lie on a side.
fn turned(raster: Raster<4>, orientation: u16) -> Raster<4> {
    let Size { width, height } = raster.size;
    let is_on_a_side = (5..=8).contains(&orientation);
    if !(2..=8).contains(&orientation) {
        return raster;
    }
    let size = if is_on_a_side { Size { width: height, height: width } } else { raster.size };
    let pixel = |i: usize| {
        let (x, y) = (i % size.width, i / size.width);
        let (x, y) = match orientation {
            2 => (width - 1 - x, y),
            3 => (width - 1 - x, height - 1 - y),
            4 => (x, height - 1 - y),
            5 => (y, x),
            6 => (y, height - 1 - x),
            7 => (width - 1 - y, height - 1 - x),
            _ => (width - 1 - y, x),
        };
        raster.pixels[y * width + x]
    };
    Raster { size, pixels: (0..width * height).map(pixel).collect() }
}
