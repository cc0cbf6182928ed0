use std::{
    io::{self, Write},
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_round_to_the_nearest_byte() {
        let x =
            core_tensor::tensor(vec![-1.0, 1.0, 0.0, 0.2, 0.998, -0.999], [1, 3, 1, 2], &core_tensor::Device::flex());
        assert_eq!(Image::of(x, String::new()).pixels, [0, 128, 255, 255, 153, 0]);
    }
}
