//! Picture files: PNG, JPEG and WebP, whatever is wrong with them an error.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek},
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
    read_picture_within(path, u64::MAX)
}

/// The same where that takes no more than so many bytes of memory, its [colours](Raster::over) included: from 7 for each pixel on.
///
/// # Errors
/// As [`read_picture`], and [`Error::PictureMemory`] before it takes more.
pub fn read_picture_within(path: impl AsRef<Path>, room: u64) -> Result<Raster<4>, Error> {
    Ok(read_turned(path.as_ref(), room)?.0)
}

/// The same, and whether its file knows no opacity.
pub(crate) fn read_turned(path: &Path, room: u64) -> Result<(Raster<4>, bool), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let found = file.metadata().map_err(read)?;
    let mut bytes = Vec::new();
    // What is no picture is told for that however long it is.
    file.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(read)?;
    let format = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => Format::Png,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::Webp,
        [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
        _ => return Err(Error::NotAPicture { path: path.to_owned() }),
    };
    let in_picture = |fault| match fault {
        Fault::Damaged(source) => Error::Pixels { path: path.to_owned(), source },
        Fault::Memory { needed } => Error::PictureMemory { path: path.to_owned(), needed, room },
    };
    let too_long = || in_picture(wrong("it is longer than 256 MiB").into());
    let mut room = Room { bytes: room, held: 0 };
    if found.len() > LONGEST {
        return Err(too_long());
    }
    let decoded = match format {
        Format::Png | Format::Webp if found.is_file() => {
            file.rewind().map_err(read)?;
            decoded(format, BufReader::new(file), room)
        }
        // Of others there is no way back, and JPEGs are decoded from all of their bytes.
        Format::Png | Format::Webp | Format::Jpeg => {
            if let (Format::Jpeg, true) = (format, found.is_file()) {
                file.by_ref().take(FRAME_WITHIN).read_to_end(&mut bytes).map_err(read)?;
                room.held = found.len();
                jpeg_frame(&bytes).map_or(Ok(()), |frame| frame.fits(room)).map_err(in_picture)?;
            }
            room.holds(found.len()).map_err(in_picture)?;
            bytes.reserve_exact((found.len() as usize + 1).saturating_sub(bytes.len()));
            file.take(LONGEST + 1 - HEAD).read_to_end(&mut bytes).map_err(read)?;
            if bytes.len() as u64 > LONGEST {
                return Err(too_long());
            }
            room.holds(bytes.len() as u64).map_err(in_picture)?;
            match format {
                Format::Jpeg => jpeg(&bytes, room),
                Format::Png | Format::Webp => decoded(format, Cursor::new(bytes), room),
            }
        }
    };
    let Decoded { raster, orientation, is_opaque } = decoded.map_err(in_picture)?;
    let room = Room { held: 0, ..room };
    Ok((turned(raster, orientation, room).map_err(in_picture)?, is_opaque))
}

#[derive(Clone, Copy)]
enum Format {
    Png,
    Webp,
    Jpeg,
}

/// What memory there is for a picture.
#[derive(Clone, Copy)]
struct Room {
    bytes: u64,
    /// What its file takes of that.
    held: u64,
}

impl Room {
    /// Counts the bytes of its file.
    fn holds(&mut self, bytes: u64) -> Result<(), Fault> {
        self.held = bytes;
        self.fits(0)
    }

    /// Whether there is room for so many bytes of each of its pixels.
    fn fits_each(self, bytes: u64, Size { width, height }: Size) -> Result<(), Fault> {
        self.fits((width as u64 * height as u64).saturating_mul(bytes))
    }

    fn fits(self, bytes: u64) -> Result<(), Fault> {
        let needed = self.held.saturating_add(bytes);
        if needed > self.bytes { Err(Fault::Memory { needed }) } else { Ok(()) }
    }
}

/// Bytes of a pixel with its opacity, and of what it is made of or becomes.
const READ: u64 = 4 + 3;

/// Bytes of a pixel of a JPEG whose coefficients are all there before the first of them: two for each.
const SCANS: u64 = 3 * 2 + 3;

/// Bytes of a pixel that is turned: here and there.
const TURNED: u64 = 4 + 4;

/// What is wrong with a picture.
enum Fault {
    Damaged(io::Error),
    /// There is no room for so many bytes.
    Memory {
        needed: u64,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

impl From<png::DecodingError> for Fault {
    fn from(error: png::DecodingError) -> Self {
        Self::Damaged(error.into())
    }
}

fn decoded(format: Format, from: impl BufRead + Seek, room: Room) -> Result<Decoded, Fault> {
    match format {
        Format::Webp => webp(from, room),
        Format::Png | Format::Jpeg => png(from, room),
    }
}

struct Decoded {
    raster: Raster<4>,
    /// As Exif has it, from 1.
    orientation: u16,
    is_opaque: bool,
}

impl Decoded {
    /// Of pixels of 1 (grey), 2 (grey, opacity), 3 or 4 bytes.
    fn of(size: Size, bytes: &[u8], channels: usize, exif: Option<&[u8]>) -> Result<Self, Fault> {
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

fn png(from: impl BufRead + Seek, room: Room) -> Result<Decoded, Fault> {
    let mut decoder = png::Decoder::new(from);
    // 16 bits become 8, and palettes colours.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let size = checked(reader.info().width as usize, reader.info().height as usize)?;
    room.fits_each(READ, size)?;
    let bytes = reader.output_buffer_size().ok_or_else(|| wrong("it has no size"))?;
    let is_whole = |frame: &png::OutputInfo| match (frame.width as usize, frame.height as usize) {
        (width, height) if (width, height) == (size.width, size.height) => Ok(()),
        _ => Err(wrong("its first picture is smaller than itself")),
    };
    if reader.output_color_type() == (png::ColorType::Rgba, png::BitDepth::Eight) {
        let mut pixels = vec![[0; 4]; size.width * size.height];
        is_whole(&reader.next_frame(pixels.as_flattened_mut())?)?;
        let orientation = reader.info().exif_metadata.as_deref().map_or(1, orientation);
        return Ok(Decoded { raster: Raster { size, pixels }, orientation, is_opaque: false });
    }
    let mut pixels = vec![0; bytes];
    let frame = reader.next_frame(&mut pixels)?;
    is_whole(&frame)?;
    pixels.truncate(frame.buffer_size());
    let exif = reader.info().exif_metadata.clone();
    drop(reader);
    Decoded::of(size, &pixels, frame.color_type.samples(), exif.as_deref())
}

fn webp(from: impl BufRead + Seek, room: Room) -> Result<Decoded, Fault> {
    let fault = |error| match error {
        image_webp::DecodingError::IoError(error) => error,
        other => wrong(other),
    };
    let mut decoder = image_webp::WebPDecoder::new(from).map_err(fault)?;
    decoder.set_memory_limit(WEBP_LIMIT);
    if decoder.is_animated() {
        return Err(wrong("it is an animation").into());
    }
    let (width, height) = decoder.dimensions();
    let size = checked(width as usize, height as usize)?;
    room.fits_each(READ, size)?;
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or_else(|| wrong("it has no size"))?];
    decoder.read_image(&mut pixels).map_err(fault)?;
    let exif = decoder.exif_metadata().map_err(fault)?;
    Decoded::of(size, &pixels, if decoder.has_alpha() { 4 } else { 3 }, exif.as_deref())
}

fn jpeg(bytes: &[u8], room: Room) -> Result<Decoded, Fault> {
    // A decoder fills up with grey what is cut off.
    let is_whole = bytes.windows(2).rposition(|mark| mark == END).is_some_and(|end| {
        let scan = bytes.windows(2).rposition(|mark| mark == SCAN);
        scan.is_some_and(|scan| scan < end)
    });
    if !is_whole {
        return Err(wrong("it ends within its pixels").into());
    }
    let options = DecoderOptions::default()
        .set_max_width(Size::MAX)
        .set_max_height(Size::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let fault = |error: zune_jpeg::errors::DecodeErrors| wrong(error.to_string());
    decoder.decode_headers().map_err(fault)?;
    let info = decoder.info().ok_or_else(|| wrong("it has no size"))?;
    let size = checked(info.width.into(), info.height.into())?;
    Frame { size, comes_in_scans: comes_in_scans(bytes) }.fits(room)?;
    let pixels = decoder.decode().map_err(fault)?;
    let exif = decoder.exif().cloned();
    drop(decoder);
    Decoded::of(size, &pixels, 3, exif.as_deref())
}

/// Where the header of a JPEG ends in most files.
const FRAME_WITHIN: u64 = 128 << 10;

/// What a JPEG's header says.
struct Frame {
    size: Size,
    comes_in_scans: bool,
}

impl Frame {
    fn fits(&self, room: Room) -> Result<(), Fault> {
        room.fits_each(if self.comes_in_scans { SCANS } else { READ }, self.size)
    }
}

/// Of the first bytes of a JPEG, if its header ends there.
fn jpeg_frame(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
    decoder.decode_headers().ok()?;
    let info = decoder.info()?;
    let size = checked(info.width.into(), info.height.into()).ok()?;
    Some(Frame { size, comes_in_scans: comes_in_scans(bytes) })
}

/// Whether no pixel is known before the last of several scans. Between marks no such bytes stand side by side; a small picture in the header
/// has marks of its own, and counts as a scan.
fn comes_in_scans(bytes: &[u8]) -> bool {
    let marks = |mark: [u8; 2]| bytes.windows(2).filter(move |bytes| *bytes == mark);
    marks(PROGRESSIVE_FRAME).next().is_some() || marks(SCAN).nth(1).is_some()
}

/// The marks of a JPEG before its pixels and behind them.
const PROGRESSIVE_FRAME: [u8; 2] = [0xff, 0xc2];
const SCAN: [u8; 2] = [0xff, 0xda];
const END: [u8; 2] = [0xff, 0xd9];

/// A picture as it is meant to be seen, by Exif's number for how it lies: 2 and 4 are mirrored, 3 stands on its head, 5 to 8 lie on a side.
fn turned(raster: Raster<4>, orientation: u16, room: Room) -> Result<Raster<4>, Fault> {
    let Size { width, height } = raster.size;
    let is_on_a_side = (5..=8).contains(&orientation);
    if !(2..=8).contains(&orientation) {
        return Ok(raster);
    }
    room.fits_each(TURNED, raster.size)?;
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
    Ok(Raster { size, pixels: (0..width * height).map(pixel).collect() })
}
