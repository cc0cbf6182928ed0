//! A finished picture, and the files that it is written to.

mod exif;
mod format;
mod likeness;
mod read;

use std::{
    io::{self, Write},
    path::Path,
};

use core_tensor::{Tensor, into_host};

use self::format::Written;
use crate::{Error, Unwritable, write_whole};

pub use format::PictureFormat;
pub use likeness::Likeness;
pub use read::Picture;

/// A finished picture: 8-bit RGB and the text that says how it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows of red, green and blue, `height · width · 3` bytes.
    pub pixels: Vec<u8>,
    /// How the picture was made.
    pub infotext: String,
}

impl Image {
    /// Rounds one picture of `[1, 3, h, w]`, -1 to 1, to bytes.
    ///
    /// # Errors
    /// [`Error::Weights`] for a device that could not compute them.
    pub(crate) fn of(pixels: Tensor<4>, infotext: String) -> Result<Self, Error> {
        let [_, _, height, width] = pixels.dims();
        let rows = into_host(pixels.swap_dims(1, 2).swap_dims(2, 3))?; // 1 c h w -> 1 h w c
        let pixels = rows.into_iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        Ok(Self { width, height, pixels, infotext })
    }

    /// Writes a file of the format that its name ends in, completely or not at all: the bytes go to a temporary file beside it, which takes the
    /// name when it is on disk. Missing folders are made; a picture of that name is replaced.
    ///
    /// # Errors
    /// As [`write_whole`], and [`Unwritable::Ending`] for a name that ends in none.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        match PictureFormat::of(path, PictureFormat::QUALITY) {
            Some(format) => self.save_as(path, format),
            None => Err(Error::Write {
                path: path.to_owned(),
                source: Unwritable::Ending { endings: PictureFormat::ENDINGS },
            }),
        }
    }

    /// The same in a given format, whatever the name.
    ///
    /// # Errors
    /// As [`write_whole`].
    pub fn save_as(&self, path: impl AsRef<Path>, format: PictureFormat) -> Result<(), Error> {
        write_whole(path.as_ref(), |file| self.encode(format, file))
    }

    /// Writes a picture to a stream.
    ///
    /// # Errors
    /// Those of the stream, and of a picture that the format has no room for: a JPEG takes [`PictureFormat::MAX_JPEG_TEXT`] bytes of text.
    pub fn encode(&self, format: PictureFormat, out: &mut dyn Write) -> io::Result<()> {
        let Self { width, height, pixels, infotext } = self;
        format.write(Written { width: *width, height: *height, pixels, opacity: None, infotext }, out)
    }

    /// How a picture in a file compares with this one, pixel by pixel.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::NotAPicture`] for what is no picture, [`Error::Pixels`] for one that does not decode.
    pub fn likeness(&self, path: impl AsRef<Path>) -> Result<Likeness, Error> {
        likeness::of(self, path.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_round_to_the_nearest_byte() {
        let x =
            core_tensor::tensor(vec![-1.0, 1.0, 0.0, 0.2, 0.998, -0.999], [1, 3, 1, 2], &core_tensor::Device::flex());
        assert_eq!(Image::of(x, String::new()).unwrap().pixels, [0, 128, 255, 255, 153, 0]);
    }
}
