//! Pictures in memory, and PNG files.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use png::{ColorType, Transformations};

/// A picture of 8-bit sRGB pixels, row by row: `C` is 3 for RGB and 4 for RGB with straight alpha.
///
/// Always `width * height` pixels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Image<const C: usize> {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[u8; C]>,
}

/// Reads a PNG of any kind.
pub(crate) fn read(path: &Path) -> Result<Image<4>, Box<dyn Error>> {
    decode(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()).into())
}

/// Writes a PNG.
pub(crate) fn write(image: &Image<3>, path: &Path) -> Result<(), Box<dyn Error>> {
    encode(image, path).map_err(|error| format!("cannot write `{}`: {error}", path.display()).into())
}

impl<const C: usize> Image<C> {
    /// The picture that `pixel(x, y)` paints.
    pub(crate) fn paint(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; C]) -> Image<C> {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        Image { width, height, pixels }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> [u8; C] {
        self.pixels[y * self.width + x]
    }
}

impl Image<4> {
    /// The picture over a plain colour.
    pub(crate) fn over(&self, background: [u8; 3]) -> Image<3> {
        let pixels = self.pixels.iter().map(|&[r, g, b, a]| mix(background, [r, g, b], f32::from(a) / 255.0)).collect();
        Image { width: self.width, height: self.height, pixels }
    }

    /// The colours alone, for a picture that is opaque.
    pub(crate) fn opaque(&self) -> Image<3> {
        let pixels = self.pixels.iter().map(|&[r, g, b, _]| [r, g, b]).collect();
        Image { width: self.width, height: self.height, pixels }
    }
}

/// `share` of `top` over the rest of `bottom`.
pub(crate) fn mix(bottom: [u8; 3], top: [u8; 3], share: f32) -> [u8; 3] {
    std::array::from_fn(|i| (f32::from(top[i]) * share + f32::from(bottom[i]) * (1.0 - share)).round() as u8)
}

fn decode(path: &Path) -> Result<Image<4>, Box<dyn Error>> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
    let mut reader = decoder.read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("the picture is too large")?];
    let info = reader.next_frame(&mut bytes)?;
    let pixels = match info.color_type {
        ColorType::GrayscaleAlpha => bytes.as_chunks().0.iter().map(|&[grey, a]| [grey, grey, grey, a]).collect(),
        ColorType::Rgba => bytes.as_chunks().0.to_vec(),
        ColorType::Grayscale | ColorType::Rgb | ColorType::Indexed => return Err("decoded without alpha".into()),
    };
    Ok(Image { width: info.width as usize, height: info.height as usize, pixels })
}

fn encode(image: &Image<3>, path: &Path) -> Result<(), Box<dyn Error>> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, u32::try_from(image.width)?, u32::try_from(image.height)?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.pixels.as_flattened())?;
    Ok(writer.finish()?)
}
