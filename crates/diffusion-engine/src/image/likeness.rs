use std::path::Path;

use super::{Image, read::Opened};
use crate::Error;

/// How a picture compares with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Every pixel is the same.
    Equal,
    /// Some are not.
    Differs {
        /// How many.
        pixels: usize,
        /// The largest difference of a colour, of 255.
        most: u8,
    },
    /// It has another size, so that no pixel can be compared.
    OtherSize {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
    /// Its file does not keep pixels as they were.
    Lossy,
}

/// Compares with the picture of a file, which is decoded only if it has as many pixels; how opaque they are does not count.
pub(super) fn of(image: &Image, path: &Path) -> Result<Likeness, Error> {
    let mut opened = Opened::of(path)?;
    let [width, height] = opened.size();
    if let Opened::Jpeg = opened {
        return Ok(Likeness::Lossy);
    }
    if [width, height] != [image.width, image.height] {
        return Ok(Likeness::OtherSize { width, height });
    }
    if opened.is_lossy() {
        return Ok(Likeness::Lossy);
    }
    let (bytes, channels) = opened.decode().map_err(|source| Error::Pixels { path: path.to_owned(), source })?;
    Ok(compared(&image.pixels, &bytes, channels))
}

fn compared(ours: &[u8], theirs: &[u8], channels: usize) -> Likeness {
    let pixels = ours.as_chunks::<3>().0.iter().zip(theirs.chunks_exact(channels));
    let differences = pixels.map(|(ours, theirs)| {
        let theirs = match theirs {
            [red, green, blue, ..] => [*red, *green, *blue],
            [grey, ..] => [*grey; 3],
            [] => *ours,
        };
        ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0)
    });
    let (pixels, most) = differences
        .fold((0, 0), |(count, most), difference| (count + usize::from(difference > 0), most.max(difference)));
    if pixels == 0 { Likeness::Equal } else { Likeness::Differs { pixels, most } }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::PictureFormat;

    fn image() -> Image {
        let pixels = (0..5 * 7 * 3).map(|i| (i * 7 % 256) as u8).collect();
        Image { width: 5, height: 7, pixels, infotext: "a cat\nSteps: 1, Version: forge 0.1.0".into() }
    }

    #[test]
    fn pixels_that_differ_are_counted_where_the_file_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.png", "a.webp"] {
            image().save(at(name)).unwrap();
            assert_eq!(image().likeness(at(name)).unwrap(), Likeness::Equal, "{name}");
            let mut other = image();
            other.pixels[0] += 2;
            other.pixels[1] += 9;
            other.pixels[3 * 34 + 2] -= 1;
            assert_eq!(other.likeness(at(name)).unwrap(), Likeness::Differs { pixels: 2, most: 9 }, "{name}");
            let small = Image { height: 6, pixels: image().pixels[..5 * 6 * 3].to_vec(), ..image() };
            assert_eq!(small.likeness(at(name)).unwrap(), Likeness::OtherSize { width: 5, height: 7 }, "{name}");
            // a file that ends early is an error
            let bytes = std::fs::read(at(name)).unwrap();
            let end = bytes.len() / 2;
            std::fs::write(at("cut"), &bytes[..end]).unwrap();
            assert!(matches!(image().likeness(at("cut")), Err(Error::Pixels { .. })), "{name}");
        }
        image().save(at("a.jpg")).unwrap();
        assert_eq!(image().likeness(at("a.jpg")).unwrap(), Likeness::Lossy);
        std::fs::write(at("a.txt"), "a cat").unwrap();
        assert!(matches!(image().likeness(at("a.txt")), Err(Error::NotAPicture { .. })));
        assert!(matches!(image().likeness(at("b.png")), Err(Error::Read { .. })));
        assert!(matches!(image().save(at("a.txt")), Err(Error::Write { .. })));
    }

    #[test]
    fn grey_pictures_and_those_with_opacity_are_compared_by_their_colours() {
        let folder = tempfile::tempdir().unwrap();
        for (color, pixel) in [
            (png::ColorType::Grayscale, &[9][..]),
            (png::ColorType::GrayscaleAlpha, &[9, 0]),
            (png::ColorType::Rgb, &[9, 9, 9]),
            (png::ColorType::Rgba, &[9, 9, 9, 128]),
        ] {
            let path = folder.path().join("a.png");
            let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 2, 1);
            encoder.set_color(color);
            encoder.write_header().unwrap().write_image_data(&[pixel, pixel].concat()).unwrap();
            let grey = Image { width: 2, height: 1, pixels: vec![9; 6], infotext: String::new() };
            assert_eq!(grey.likeness(&path).unwrap(), Likeness::Equal, "{color:?}");
        }
    }

    #[test]
    fn a_jpeg_takes_a_text_up_to_its_limit_and_says_so_beyond() {
        let most = PictureFormat::MAX_JPEG_TEXT / 2;
        let jpeg = PictureFormat::Jpeg { quality: 50 };
        for (length, fits) in [(most, true), (most + 1, false)] {
            let image = Image { infotext: "x".repeat(length), ..image() };
            assert_eq!(jpeg.holds(&image.infotext), fits);
            assert_eq!(image.encode(jpeg, &mut Vec::new()).is_ok(), fits);
            assert!(image.encode(PictureFormat::Webp, &mut Vec::new()).is_ok());
        }
    }
}
