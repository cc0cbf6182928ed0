use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::Path,
};

use core_tensor::{Tensor, values};

use crate::{Error, write_whole};

/// The PNG text key that A1111 reads and writes.
const KEY: &str = "parameters";

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
    pub(crate) fn of(pixels: Tensor<4>, infotext: String) -> Self {
        let [_, _, height, width] = pixels.dims();
        let rows = values(&pixels.swap_dims(1, 2).swap_dims(2, 3)); // 1 c h w -> 1 h w c
        let pixels = rows.into_iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        Self { width, height, pixels, infotext }
    }

    /// Writes a PNG, completely or not at all: the bytes go to a temporary file beside it, which takes the name when it is
    /// on disk. Missing folders are made; a picture of that name is replaced.
    ///
    /// # Errors
    /// As [`write_whole`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), |file| self.encode(file))
    }

    /// Writes a PNG to a stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn encode(&self, out: &mut dyn Write) -> io::Result<()> {
        let side = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let mut encoder = png::Encoder::new(out, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        if self.infotext.chars().all(|c| matches!(u32::from(c), 1..=255)) {
            encoder.add_text_chunk(KEY.into(), self.infotext.clone())?;
        } else {
            encoder.add_itxt_chunk(KEY.into(), self.infotext.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        Ok(writer.finish()?)
    }
}

/// The infotext of a PNG; its pixels are not decoded.
///
/// # Errors
/// [`Error::Read`] for anything that is not a PNG, [`Error::NoInfotext`] for one without the text.
pub fn read_infotext(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    if path.exists() && !path.is_file() {
        return Err(read(io::Error::from(io::ErrorKind::InvalidInput).into())); // opening a pipe would wait for a writer
    }
    let file = File::open(path).map_err(|e| read(e.into()))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(read)?;
    // Some programs write their text behind the pixels.
    reader.finish().map_err(read)?;
    let info = reader.info();
    // A few kilobytes can unpack to gigabytes; `decompress_text` stops at 2 MiB.
    let utf8 = info.utf8_text.iter().find(|t| t.keyword == KEY).map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text().and_then(|()| chunk.get_text())
    });
    let packed = info.compressed_latin1_text.iter().find(|t| t.keyword == KEY).map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text().and_then(|()| chunk.get_text())
    });
    let plain = info.uncompressed_latin1_text.iter().find(|t| t.keyword == KEY).map(|t| Ok(t.text.clone()));
    let text = utf8.or(plain).or(packed).transpose().map_err(read)?;
    text.ok_or_else(|| Error::NoInfotext { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn picture(infotext: &str) -> Image {
        Image { width: 2, height: 1, pixels: vec![255, 0, 0, 0, 0, 255], infotext: infotext.into() }
    }

    #[test]
    fn the_infotext_comes_back_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["a café\nSteps: 1", "ein Löwe, 獅子\nSteps: 1", "\u{0}odd", ""] {
            let path = folder.path().join("deep/er/a.png");
            picture(text).save(&path).unwrap();
            assert_eq!(read_infotext(&path).unwrap(), text);
        }
    }

    #[test]
    fn bytes_that_are_no_picture_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        picture("x").save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 7, 20, 40] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(read_infotext(&path), Err(Error::Read { .. })), "{cut}");
        }
        assert!(matches!(read_infotext(folder.path()), Err(Error::Read { .. })));
    }

    #[test]
    fn pixels_round_to_the_nearest_byte() {
        let x =
            core_tensor::tensor(vec![-1.0, 1.0, 0.0, 0.2, 0.998, -0.999], [1, 3, 1, 2], &core_tensor::Device::flex());
        assert_eq!(Image::of(x, String::new()).pixels, [0, 128, 255, 255, 153, 0]);
    }
}
