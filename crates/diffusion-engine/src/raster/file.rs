//! Picture files: PNG, JPEG and WebP, whatever is wrong with them an error.

mod jpeg_header;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek},
    path::Path,
};

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use self::jpeg_header::JpegHeader;
use super::Raster;
use crate::{Error, Size, tiff::orientation};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 256 << 20;

/// Bytes that tell what a file is.
const HEAD: u64 = 16;

/// Bytes beside the pixels that a PNG's decoder may take.
const PNG_LIMIT: usize = 1 << 26;

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

/// The same if there is room for it: `room` bytes of memory. A pixel takes 7 bytes, with which its [colours](Raster::over) can be taken out
/// too, and up to 11 where a JPEG comes in several scans; a JPEG and what is no file are held meanwhile.
///
/// # Errors
/// As [`read_picture`], and [`Error::PictureMemory`] before more is taken.
pub fn read_picture_within(path: impl AsRef<Path>, room: u64) -> Result<Raster<4>, Error> {
    Ok(read_turned(path.as_ref(), Room { bytes: room, held: 0, least: READ })?.0)
}

/// The same with the room as it is counted, and whether the file knows no opacity.
pub(crate) fn read_turned(path: &Path, room: Room) -> Result<(Raster<4>, bool), Error> {
    let in_picture = |fault| match fault {
        Fault::Unread(source) => Error::Read { path: path.to_owned(), source },
        Fault::Unknown => Error::NotAPicture { path: path.to_owned() },
        Fault::Damaged(source) => Error::Pixels { path: path.to_owned(), source },
        Fault::Memory { needed } => Error::PictureMemory { path: path.to_owned(), needed, room: room.bytes },
    };
    let Decoded { raster, orientation, is_opaque } = decoded(path, room).map_err(in_picture)?;
    Ok((turned(raster, orientation, room).map_err(in_picture)?, is_opaque))
}

fn decoded(path: &Path, room: Room) -> Result<Decoded, Fault> {
    let mut file = File::open(path).map_err(Fault::Unread)?;
    let found = file.metadata().map_err(Fault::Unread)?;
    // What is no picture is told for that however long it is.
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).map_err(Fault::Unread)?;
    let format = Format::of(&head).ok_or(Fault::Unknown)?;
    if found.len() > LONGEST {
        return Err(too_long());
    }
    if found.is_file() {
        file.rewind().map_err(Fault::Unread)?;
        let (file, length) = (BufReader::new(file), found.len());
        return match format {
            Format::Png => png(file, room),
            Format::Webp => webp(file, room),
            Format::Jpeg => jpeg(&jpeg_file(file, length, room)?, room.beside(length)?),
        };
    }
    // There is no way back in it.
    let bytes = rest(head, file, room)?;
    let room = room.beside(bytes.capacity() as u64)?;
    match format {
        Format::Png => png(Cursor::new(bytes), room),
        Format::Webp => webp(Cursor::new(bytes), room),
        Format::Jpeg => jpeg(&bytes, room),
    }
}

/// All bytes of what has no length before it ends, as far as there is room.
fn rest(head: Vec<u8>, mut from: impl Read, room: Room) -> Result<Vec<u8>, Fault> {
    /// A list that has just grown is twice as long as what it holds, and the one before is there too.
    const GROWN: u64 = 3;
    let (mut bytes, most) = (head, LONGEST.min(room.bytes / GROWN));
    from.by_ref().take((most + 1).saturating_sub(HEAD)).read_to_end(&mut bytes).map_err(Fault::Unread)?;
    let mut length = bytes.len() as u64;
    if length > most {
        drop(bytes);
        // How much there is, it is asked for.
        length +=
            io::copy(&mut from.take((LONGEST + 1).saturating_sub(length)), &mut io::sink()).map_err(Fault::Unread)?;
        let needed = length.saturating_mul(GROWN);
        return Err(if length > LONGEST { too_long() } else { Fault::Memory { needed } });
    }
    Ok(bytes)
}

fn too_long() -> Fault {
    wrong("it is longer than 256 MiB").into()
}

#[derive(Clone, Copy)]
enum Format {
    Png,
    Webp,
    Jpeg,
}

impl Format {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            _ => None,
        }
    }
}

/// What memory there is for a picture.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    /// What its file takes of that while it is decoded.
    pub(crate) held: u64,
    /// What is made of each pixel, with the pixel: bytes.
    pub(crate) least: u64,
}

impl Room {
    /// The same beside so many bytes more of its file.
    fn beside(self, bytes: u64) -> Result<Self, Fault> {
        let room = Self { held: self.held.saturating_add(bytes), ..self };
        room.fits(room.held).map(|()| room)
    }

    /// How much a decoder may take beside the pixels: as much as there is, up to a limit, and a little in any case.
    fn beside_pixels(self, limit: usize) -> usize {
        const LITTLE: usize = 1 << 17;
        usize::try_from(self.bytes.saturating_sub(self.held)).unwrap_or(usize::MAX).clamp(LITTLE, limit)
    }

    /// Whether there is room for so many bytes of each pixel while it is decoded, and then for those of one that is turned.
    fn fits_pixels(self, each: u64, size: Size, orientation: u16) -> Result<(), Fault> {
        let decoding = self.held.saturating_add(bytes(each.max(READ), size));
        self.fits(decoding.max(self.made_of(size, orientation)))
    }

    /// Whether there is room for a picture that is decoded, and its file let go.
    fn fits_turned(self, size: Size, orientation: u16) -> Result<(), Fault> {
        self.fits(self.made_of(size, orientation))
    }

    fn made_of(self, size: Size, orientation: u16) -> u64 {
        let each = if is_turned(orientation) { TURNED } else { READ };
        bytes(each.max(self.least), size)
    }

    fn fits(self, needed: u64) -> Result<(), Fault> {
        if needed > self.bytes { Err(Fault::Memory { needed }) } else { Ok(()) }
    }
}

fn bytes(each: u64, Size { width, height }: Size) -> u64 {
    (width as u64 * height as u64).saturating_mul(each)
}

/// Bytes of a pixel with its opacity, and of what it is made of or becomes.
const READ: u64 = 4 + 3;

/// Bytes of a pixel that is turned: here and there.
const TURNED: u64 = 4 + 4;

/// Why there is no picture.
pub(super) enum Fault {
    Unread(io::Error),
    /// It is of no format that is read.
    Unknown,
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

struct Decoded {
    raster: Raster<4>,
    /// As Exif has it, from 1.
    orientation: u16,
    is_opaque: bool,
}

impl Decoded {
    /// Of pixels of 1 (grey), 2 (grey, opacity), 3 or 4 bytes.
    fn of(size: Size, bytes: &[u8], channels: usize, orientation: u16) -> Result<Self, Fault> {
        let pixel = |bytes: &[u8]| match *bytes {
            [grey] => [grey, grey, grey, 255],
            [grey, opacity] => [grey, grey, grey, opacity],
            [r, g, b] => [r, g, b, 255],
            [r, g, b, a, ..] => [r, g, b, a],
            [] => [0; 4],
        };
        let pixels = bytes.chunks_exact(channels.max(1)).map(pixel).collect();
        let raster = Raster::new(size, pixels).ok_or_else(|| wrong("it has another number of pixels than it says"))?;
        Ok(Self { raster, orientation, is_opaque: matches!(channels, 1 | 3) })
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
    let mut decoder = png::Decoder::new_with_limits(from, png::Limits { bytes: room.beside_pixels(PNG_LIMIT) });
    // 16 bits become 8, and palettes colours.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info()?;
    let size = checked(reader.info().width as usize, reader.info().height as usize)?;
    let exif_of = |info: &png::Info| info.exif_metadata.as_deref().map_or(1, orientation);
    let exif = reader.info().exif_metadata.as_ref().map_or(0, |exif| exif.len() as u64);
    room.beside(exif)?.fits_pixels(READ, size, exif_of(reader.info()))?;
    let is_whole = |frame: &png::OutputInfo| match (frame.width as usize, frame.height as usize) {
        (width, height) if (width, height) == (size.width, size.height) => Ok(()),
        _ => Err(wrong("its first picture is smaller than itself")),
    };
    if reader.output_color_type() == (png::ColorType::Rgba, png::BitDepth::Eight) {
        let mut pixels = vec![[0; 4]; size.width * size.height];
        is_whole(&reader.next_frame(pixels.as_flattened_mut())?)?;
        return Ok(Decoded { raster: Raster { size, pixels }, orientation: exif_of(reader.info()), is_opaque: false });
    }
    let mut pixels = vec![0; reader.output_buffer_size().ok_or_else(|| wrong("it has no size"))?];
    let frame = reader.next_frame(&mut pixels)?;
    is_whole(&frame)?;
    pixels.truncate(frame.buffer_size());
    let orientation = exif_of(reader.info());
    drop(reader);
    Decoded::of(size, &pixels, frame.color_type.samples(), orientation)
}

fn webp(from: impl BufRead + Seek, room: Room) -> Result<Decoded, Fault> {
    let fault = |error| match error {
        image_webp::DecodingError::IoError(error) => error,
        other => wrong(other),
    };
    let mut decoder = image_webp::WebPDecoder::new(from).map_err(fault)?;
    decoder.set_memory_limit(room.beside_pixels(WEBP_LIMIT));
    if decoder.is_animated() {
        return Err(wrong("it is an animation").into());
    }
    let (width, height) = decoder.dimensions();
    let size = checked(width as usize, height as usize)?;
    let exif = decoder.exif_metadata().map_err(fault)?.unwrap_or_default();
    let orientation = orientation(&exif);
    drop(exif);
    let each = if decoder.is_lossy() && decoder.has_alpha() { LOSSY_WITH_OPACITY } else { READ };
    room.fits_pixels(each, size, orientation)?;
    if decoder.has_alpha() {
        let mut pixels = vec![[0; 4]; size.width * size.height];
        decoder.read_image(pixels.as_flattened_mut()).map_err(fault)?;
        return Ok(Decoded { raster: Raster { size, pixels }, orientation, is_opaque: false });
    }
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or_else(|| wrong("it has no size"))?];
    decoder.read_image(&mut pixels).map_err(fault)?;
    drop(decoder);
    Decoded::of(size, &pixels, 3, orientation)
}

/// All bytes of a JPEG's file, once its header says that there is room for its pixels beside them.
fn jpeg_file(mut file: impl Read, length: u64, room: Room) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(length.min(HEADER) as usize + 1);
    file.by_ref().take(HEADER).read_to_end(&mut bytes).map_err(Fault::Unread)?;
    JpegHeader::of(&bytes).map_or(Ok(()), |header| header.fits(Room { held: length, ..room }))?;
    room.beside(length)?;
    bytes.reserve_exact((length as usize + 1).saturating_sub(bytes.len()));
    file.take((LONGEST + 1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes).map_err(Fault::Unread)?;
    if bytes.len() as u64 > LONGEST { Err(too_long()) } else { Ok(bytes) }
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
    let fault = |error: zune_jpeg::errors::DecodeErrors| wrong(error.to_string());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let header = JpegHeader::of(bytes);
    header.as_ref().map_or(Ok(()), |header| header.fits(room))?;
    decoder.decode_headers().map_err(fault)?;
    let info = decoder.info().ok_or_else(|| wrong("it has no size"))?;
    let size = checked(info.width.into(), info.height.into())?;
    if header.is_none() {
        // A decoder passes over more than a header may hold.
        room.fits_pixels(MOST_OF_JPEG, size, 1)?;
    }
    let pixels = decoder.decode().map_err(fault)?;
    let orientation = decoder.exif().map_or(1, |exif| orientation(exif));
    drop(decoder);
    Decoded::of(size, &pixels, 3, orientation)
}

impl JpegHeader {
    fn fits(&self, room: Room) -> Result<(), Fault> {
        let size = checked(self.width.into(), self.height.into())?;
        // Of several scans all coefficients are there before the first pixel is, each of two bytes.
        let coefficients = if self.comes_in_scans { 2 * u64::from(self.components) } else { 0 };
        room.fits_pixels(coefficients + 3, size, self.orientation)
    }
}

/// Bytes of a pixel of a JPEG of four colours in several scans.
const MOST_OF_JPEG: u64 = 4 * 2 + 3;

/// Bytes of a pixel of a WebP that is lossy and has an opacity: its brightness and colours, what it becomes, and the opacity as a picture and alone.
const LOSSY_WITH_OPACITY: u64 = 2 + 4 + 4 + 1;

/// Where the header of a JPEG ends in most files.
const HEADER: u64 = 128 << 10;

/// The marks of a JPEG before its pixels and behind them.
const SCAN: [u8; 2] = [0xff, 0xda];
const END: [u8; 2] = [0xff, 0xd9];

fn is_turned(orientation: u16) -> bool {
    (2..=8).contains(&orientation)
}

/// A picture as it is meant to be seen, by Exif's number for how it lies: 2 and 4 are mirrored, 3 stands on its head, 5 to 8 lie on a side.
fn turned(raster: Raster<4>, orientation: u16, room: Room) -> Result<Raster<4>, Fault> {
    let Size { width, height } = raster.size;
    let is_on_a_side = (5..=8).contains(&orientation);
    if !is_turned(orientation) {
        return Ok(raster);
    }
    room.fits_turned(raster.size, orientation)?;
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
