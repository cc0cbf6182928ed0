use std::{
    borrow::Cow,
    io::{self, Write},
    path::Path,
};

use super::exif;
use crate::Size;

/// The PNG text key that A1111 reads and writes.
const KEY: &str = "parameters";

/// How a file holds a picture; each holds the text that says how it was made, where A1111 and its relatives look for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// Every pixel as it is, the text under `parameters`.
    Png,
    /// Nearly every pixel, in much less room, the text in Exif.
    Jpeg {
        /// From 1 to 100, the best.
        quality: u8,
    },
    /// Every pixel as it is, in less room than PNG takes, the text in Exif.
    Webp,
}

impl PictureFormat {
    /// The quality of a JPEG where nothing is said.
    pub const QUALITY: u8 = 90;

    /// The endings of names by which formats are told, as messages list them.
    pub const ENDINGS: &str = "`.png`, `.jpg`, `.jpeg` or `.webp`";

    /// The longest text that a JPEG has room for, in bytes of UTF-16: a segment of 65,535 bytes with all that belongs to it.
    pub const MAX_JPEG_TEXT: usize = 65_535 - 2 - EXIF.len() - exif::HEAD;

    /// The format that a name ends in, in any case; `None` for others.
    pub fn of(path: &Path, quality: u8) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg { quality }),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Whether it has room for a text.
    pub fn holds(self, infotext: &str) -> bool {
        match self {
            Self::Png | Self::Webp => true,
            Self::Jpeg { .. } => 2 * infotext.encode_utf16().count() <= Self::MAX_JPEG_TEXT,
        }
    }

    /// The longest side of a picture that it holds, in pixels.
    pub const fn longest_side(self) -> usize {
        match self {
            Self::Png => (1 << 31) - 1,
            Self::Jpeg { .. } => (1 << 16) - 1,
            Self::Webp => (1 << 14) - 1,
        }
    }

    /// The most memory that writing a picture without opacity takes beside it, in bytes. Most pictures take less: this is what noise takes.
    pub fn encoding_bytes(self, Size { width, height }: Size) -> u64 {
        // Of each pixel: what is compressed lies in a list, of which there are three times as many bytes when it has just grown; a JPEG has
        // all coefficients first, of two bytes, and WebP each pixel with an opacity.
        let each = match self {
            Self::Png => 3 * 3,
            Self::Jpeg { .. } => 3 * 2 + 4,
            Self::Webp => 3 * 3 + 4,
        };
        (width as u64).saturating_mul(height as u64).saturating_mul(each)
    }

    pub(super) fn write(self, image: Written, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Png => png(image, out),
            Self::Jpeg { quality } => jpeg(image, quality, out),
            Self::Webp => webp(image, out),
        }
    }
}

/// A picture as it is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'p> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `height · width · 3` bytes.
    pub(super) pixels: &'p [u8],
    /// `height · width` bytes, which a JPEG has no room for.
    pub(super) opacity: Option<&'p [u8]>,
    /// What is said of it; nothing where it is empty.
    pub(super) infotext: &'p str,
}

impl Written<'_> {
    /// Red, green, blue and, where there is one, the opacity of each pixel.
    fn interleaved(&self) -> Cow<'_, [u8]> {
        let Some(opacity) = self.opacity else { return Cow::Borrowed(self.pixels) };
        let pixels = self.pixels.as_chunks::<3>().0.iter().zip(opacity);
        Cow::Owned(pixels.flat_map(|(&[red, green, blue], &opacity)| [red, green, blue, opacity]).collect())
    }
}

/// What the segment of a JPEG begins with that holds Exif.
const EXIF: &[u8] = b"Exif\0\0";

fn side<N: TryFrom<usize>>(n: usize) -> io::Result<N> {
    N::try_from(n).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the picture is too large for its format"))
}

fn png(image: Written, out: &mut dyn Write) -> io::Result<()> {
    let mut encoder = png::Encoder::new(out, side(image.width)?, side(image.height)?);
    encoder.set_color(if image.opacity.is_some() { png::ColorType::Rgba } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    if image.infotext.chars().any(|c| !matches!(u32::from(c), 1..=255)) {
        encoder.add_itxt_chunk(KEY.into(), image.infotext.to_owned())?;
    } else if !image.infotext.is_empty() {
        encoder.add_text_chunk(KEY.into(), image.infotext.to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.interleaved())?;
    Ok(writer.finish()?)
}

fn jpeg(image: Written, quality: u8, out: &mut dyn Write) -> io::Result<()> {
    use jpeg_encoder::{ColorType, Encoder, EncodingError};
    let error = |error| match error {
        EncodingError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    };
    let mut encoder = Encoder::new(out, quality.clamp(1, 100));
    encoder.set_optimized_huffman_tables(true);
    if !image.infotext.is_empty() {
        encoder.add_exif_metadata(&exif::user_comment(image.infotext)).map_err(error)?;
    }
    encoder.encode(image.pixels, side(image.width)?, side(image.height)?, ColorType::Rgb).map_err(error)
}

fn webp(image: Written, out: &mut dyn Write) -> io::Result<()> {
    use image_webp::{ColorType, EncodingError, WebPEncoder};
    let mut encoder = WebPEncoder::new(out);
    if !image.infotext.is_empty() {
        encoder.set_exif_metadata(exif::user_comment(image.infotext));
    }
    let colour = if image.opacity.is_some() { ColorType::Rgba8 } else { ColorType::Rgb8 };
    encoder.encode(&image.interleaved(), side(image.width)?, side(image.height)?, colour).map_err(|error| match error {
        EncodingError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    })
}
