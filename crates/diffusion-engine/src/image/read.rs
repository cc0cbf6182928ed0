//! Pictures of files as they are made larger, and files that others are compared with.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use core_tensor::{Device, Tensor, into_host, on_host, tensor};

use super::{PictureFormat, format::Written};
use crate::{
    Error, Size,
    raster::{Room, read_turned},
    write_whole,
};

/// A picture that a file brings: 8-bit RGB, and how opaque each pixel is where the file tells that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows of red, green and blue, `height · width · 3` bytes.
    pub pixels: Vec<u8>,
    /// Rows of opacities, `height · width` bytes, of which 255 is a pixel that nothing shines through.
    pub opacity: Option<Vec<u8>>,
}

impl Picture {
    /// Reads a PNG, a JPEG or a WebP, turned as its Exif says that a camera was held.
    ///
    /// # Errors
    /// As [`read_picture`](crate::read_picture).
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_within(path, u64::MAX)
    }

    /// The same where that takes no more than so many bytes of memory.
    ///
    /// # Errors
    /// As [`read_picture_within`](crate::read_picture_within).
    pub fn read_within(path: &Path, room: u64) -> Result<Self, Error> {
        /// Bytes of a pixel with its opacity, its colours, and its opacity alone.
        const EACH: u64 = 4 + 3 + 1;
        let (raster, is_opaque) = read_turned(path, Room { bytes: room, held: 0, least: EACH })?;
        let Size { width, height } = raster.size();
        let mut pixels = Vec::with_capacity(width * height * 3);
        pixels.extend(raster.pixels().iter().flat_map(|&[red, green, blue, _]| [red, green, blue]));
        let opacity = (!is_opaque).then(|| raster.pixels().iter().map(|&[.., opacity]| opacity).collect());
        Ok(Self { width, height, pixels, opacity })
    }

    /// Of colours `[1, 3, h, w]`, 0 to 1, which are cut off beyond, and opacities.
    ///
    /// # Errors
    /// [`Error::Weights`] for a device that could not compute them.
    ///
    /// # Panics
    /// If there are not as many opacities as pixels.
    pub fn of(colours: &Tensor<4>, opacity: Option<Vec<u8>>) -> Result<Self, Error> {
        let [_, _, height, width] = colours.dims();
        assert!(opacity.as_ref().is_none_or(|all| all.len() == height * width), "an opacity for each pixel");
        let pixels = into_host(colours.clone().swap_dims(1, 2).swap_dims(2, 3))?; // 1 h w c
        Ok(Self { width, height, pixels: pixels.into_iter().map(byte).collect(), opacity })
    }

    /// The opacities of greys `[1, 1, h, w]`, 0 to 1, which are cut off beyond.
    ///
    /// # Errors
    /// As [`Picture::of`].
    pub fn opacity_of(greys: &Tensor<4>) -> Result<Vec<u8>, Error> {
        Ok(on_host(greys)?.into_iter().map(byte).collect())
    }

    /// Its colours, `[1, 3, h, w]`, 0 to 1.
    pub fn colours(&self, device: &Device) -> Tensor<4> {
        let area = self.width * self.height;
        let value = |i: usize| f32::from(self.pixels[i % area * 3 + i / area]) / 255.0;
        tensor((0..3 * area).map(value).collect(), [1, 3, self.height, self.width], device)
    }

    /// Whether some of its pixels are less opaque than others.
    pub fn is_mixed(&self) -> bool {
        self.opacity.as_ref().is_some_and(|all| all.iter().any(|opacity| Some(opacity) != all.first()))
    }

    /// Its opacities as a picture of greys, `[1, 3, h, w]`, 0 to 1; `None` where every pixel is as opaque as the first.
    pub fn opacities(&self, device: &Device) -> Option<Tensor<4>> {
        let all = self.opacity.as_ref().filter(|_| self.is_mixed())?;
        let greys = (0..3).flat_map(|_| all).map(|&opacity| f32::from(opacity) / 255.0).collect();
        Some(tensor(greys, [1, 3, self.height, self.width], device))
    }

    /// The same over a colour that shines through, opaque.
    pub fn over(&self, colour: [u8; 3]) -> Self {
        let Some(opacity) = &self.opacity else { return self.clone() };
        let mixed = |(i, &value): (usize, &u8)| {
            let (share, below) = (u32::from(opacity[i / 3]), u32::from(colour[i % 3]));
            ((u32::from(value) * share + below * (255 - share) + 127) / 255) as u8
        };
        Self { pixels: self.pixels.iter().enumerate().map(mixed).collect(), opacity: None, ..*self }
    }

    /// Writes a file with a text that says how the picture was made, completely or not at all. A JPEG, which knows no opacity, is over
    /// white.
    ///
    /// # Errors
    /// As [`write_whole`].
    pub fn save_as(&self, path: &Path, format: PictureFormat, infotext: &str) -> Result<(), Error> {
        let opaque = match (format, &self.opacity) {
            (PictureFormat::Jpeg { .. }, Some(_)) => Some(self.over([255; 3])),
            _ => None,
        };
        let Self { width, height, pixels, opacity } = opaque.as_ref().unwrap_or(self);
        let written = Written { width: *width, height: *height, pixels, opacity: opacity.as_deref(), infotext };
        write_whole(path, |file| format.write(written, file))
    }
}

/// A value of 0 to 1 as a byte.
fn byte(value: f32) -> u8 {
    (value * 255.0).round() as u8
}

/// A picture's file of which the header was read.
pub(super) enum Opened {
    Png(Box<png::Reader<BufReader<File>>>),
    Webp(Box<image_webp::WebPDecoder<BufReader<File>>>),
    /// Whatever a JPEG's header says: it is not decoded.
    Jpeg,
}

/// Bytes beside the pixels that a WebP's decoder may take.
const WEBP_LIMIT: usize = 1 << 29;

impl Opened {
    /// Opens a file, by what it begins with.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(read)?);
        let mut head = Vec::new();
        file.by_ref().take(12).read_to_end(&mut head).map_err(read)?;
        file.rewind().map_err(read)?;
        let opened = match head.as_slice() {
            [0x89, b'P', b'N', b'G', ..] => png(file),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => webp(file),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            _ => return Err(Error::NotAPicture { path: path.to_owned() }),
        };
        opened.map_err(|source| Error::Pixels { path: path.to_owned(), source })
    }

    /// Pixels across and down; none of a JPEG.
    pub(super) fn size(&self) -> [usize; 2] {
        match self {
            Self::Png(reader) => [reader.info().width as usize, reader.info().height as usize],
            Self::Webp(decoder) => {
                let (width, height) = decoder.dimensions();
                [width as usize, height as usize]
            }
            Self::Jpeg => [0, 0],
        }
    }

    /// Whether its file does not keep pixels as they were.
    pub(super) fn is_lossy(&mut self) -> bool {
        match self {
            Self::Png(_) => false,
            Self::Webp(decoder) => decoder.is_lossy(),
            Self::Jpeg => true,
        }
    }

    /// Its pixels row by row, each of so many bytes: 1 (grey), 2 (grey, opacity), 3 or 4.
    pub(super) fn decode(self) -> io::Result<(Vec<u8>, usize)> {
        let [width, height] = self.size();
        let (bytes, channels) = match self {
            Self::Png(mut reader) => {
                let mut bytes = vec![0; reader.output_buffer_size().ok_or(io::ErrorKind::InvalidData)?];
                let frame = reader.next_frame(&mut bytes)?;
                bytes.truncate(frame.buffer_size());
                (bytes, frame.color_type.samples())
            }
            Self::Webp(mut decoder) => {
                let mut bytes = vec![0; decoder.output_buffer_size().ok_or(io::ErrorKind::InvalidData)?];
                decoder.read_image(&mut bytes).map_err(of_webp)?;
                (bytes, if decoder.has_alpha() { 4 } else { 3 })
            }
            Self::Jpeg => return Err(io::Error::new(io::ErrorKind::Unsupported, "JPEGs are not decoded")),
        };
        let expected = width.checked_mul(height).and_then(|count| count.checked_mul(channels));
        match expected == Some(bytes.len()) && !bytes.is_empty() {
            true => Ok((bytes, channels)),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it has other pixels than its header says")),
        }
    }
}

fn png(file: BufReader<File>) -> io::Result<Opened> {
    let mut decoder = png::Decoder::new(file);
    // 16 bits become 8, and palettes colours.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    Ok(Opened::Png(Box::new(decoder.read_info()?)))
}

fn webp(file: BufReader<File>) -> io::Result<Opened> {
    let mut decoder = image_webp::WebPDecoder::new(file).map_err(of_webp)?;
    decoder.set_memory_limit(WEBP_LIMIT);
    match decoder.is_animated() {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "it is an animation")),
        false => Ok(Opened::Webp(Box::new(decoder))),
    }
}

fn of_webp(error: image_webp::DecodingError) -> io::Error {
    match error {
        image_webp::DecodingError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::values;

    use super::*;

    fn counted(opacity: bool) -> Picture {
        let pixels = (0..5 * 7 * 3).map(|i| (i * 7 % 256) as u8).collect();
        Picture { width: 5, height: 7, pixels, opacity: opacity.then(|| (0..35).map(|i| i * 7).collect()) }
    }

    #[test]
    fn what_is_written_without_loss_is_read_again_with_its_opacity() {
        let folder = tempfile::tempdir().unwrap();
        for picture in [counted(false), counted(true)] {
            for name in ["a.png", "a.webp"] {
                let path = folder.path().join(name);
                picture.save_as(&path, PictureFormat::of(&path, 90).unwrap(), "a cat\nSteps: 1").unwrap();
                assert_eq!(Picture::read(&path).unwrap(), picture, "{name}");
                assert_eq!(crate::read_infotext(&path).unwrap(), "a cat\nSteps: 1");
                picture.save_as(&path, PictureFormat::of(&path, 90).unwrap(), "").unwrap();
                assert!(matches!(crate::read_infotext(&path), Err(Error::NoInfotext { .. })), "{name}");
            }
        }
    }

    #[test]
    fn colours_and_opacities_become_values_and_bytes_again() {
        let picture = counted(true);
        let colours = picture.colours(&Device::flex());
        assert_eq!(Picture::of(&colours, picture.opacity.clone()).unwrap(), picture);
        assert_eq!(values(&picture.opacities(&Device::flex()).unwrap())[36], 7.0 / 255.0);
        let even = Picture { opacity: Some(vec![128; 35]), ..picture };
        assert!(even.opacities(&Device::flex()).is_none() && counted(false).opacities(&Device::flex()).is_none());
        let beyond = tensor(vec![-0.5, 1.5, f32::NAN], [1, 3, 1, 1], &Device::flex());
        assert_eq!(Picture::of(&beyond, None).unwrap().pixels, [0, 255, 0]);
    }

    #[test]
    fn what_is_not_opaque_lets_a_colour_through() {
        let pixels = [[10, 20, 30]; 3].concat();
        let picture = Picture { width: 3, height: 1, pixels, opacity: Some(vec![255, 0, 51]) };
        let over = picture.over([255, 0, 100]);
        assert_eq!((over.pixels, over.opacity), (vec![10, 20, 30, 255, 0, 100, 206, 4, 86], None));
    }

    /// A PNG's signature and header, and no pixels.
    fn claimed(width: u32, height: u32) -> Vec<u8> {
        let mut header = b"IHDR".to_vec();
        header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        header.extend([8, 2, 0, 0, 0]);
        let sum = header.iter().fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
        });
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        file.extend(header);
        file.extend((!sum).to_be_bytes());
        file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        file
    }

    #[test]
    fn a_file_that_claims_what_it_does_not_hold_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Picture::read(&path)
        };
        let large = [(1 << 16, 1 << 11), (8193, 8192), (8192, 8192), (u32::MAX >> 1, u32::MAX >> 1)];
        for (width, height) in [(0, 5), (5, 0), (1, 1)].into_iter().chain(large) {
            assert!(matches!(read(&claimed(width, height)), Err(Error::Pixels { .. })), "{width} {height}");
        }
        for nothing in [&b""[..], b"a cat", b"\x89PN", b"RIFF\0\0\0\0WEB"] {
            assert!(matches!(read(nothing), Err(Error::NotAPicture { .. })));
        }
        assert!(matches!(Picture::read(&folder.path().join("none")), Err(Error::Read { .. })));
        for name in ["b.png", "b.webp"] {
            let path = folder.path().join(name);
            counted(true).save_as(&path, PictureFormat::of(&path, 90).unwrap(), "a cat").unwrap();
            let whole = std::fs::read(&path).unwrap();
            // Whatever is cut off or changed: a picture or an error, and no panic.
            for end in 0..whole.len() {
                let _ = read(&whole[..end]);
                let mut changed = whole.clone();
                changed[end] ^= 0x55;
                let _ = read(&changed);
            }
            assert!(matches!(read(&whole[..whole.len() / 2]), Err(Error::Pixels { .. })), "{name}");
        }
    }
}
