use core_tensor::{Device, Latent, Tensor, into_host, tensor};

use crate::{Autoencoder, Card, Error, Filter, Inside, Pass, PixelUpscaler, Size, Stage, Upscaler, finite::finite};

/// What a pass starts from, of what the pass before made: made larger, and still to be cut to its size.
///
/// The rules are those of Forge: modules/processing.py `sample_hr_pass` and modules/upscaler.py, dfdcbab.
pub(crate) enum Enlarged {
    Latent(Latent),
    /// Pictures, `[b, 3, h, w]`, -1 to 1, whose sides are multiples of the latent's factor.
    Pictures(Tensor<4>),
}

impl Enlarged {
    /// Makes the clean latent of the pass before as large as a pass asks for; `before` is the model's autoencoder that made it.
    ///
    /// # Errors
    /// Those of decoding, and [`Error::NotFinite`].
    pub(crate) fn of(
        pass: &Pass,
        card: &Card,
        before: &dyn Autoencoder,
        clean: Latent,
        inside: &Inside,
    ) -> Result<Self, Error> {
        let size = pass.enlarged_to.unwrap_or(pass.size);
        let [_, rows, columns] = card.latent_shape(size);
        let [pictures, _, h, w] = clean.0.dims();
        let network = match &pass.upscaler {
            Upscaler::Latent(_) if [h, w] == [rows, columns] => return Ok(Self::Latent(clean)),
            Upscaler::Latent(interpolation) => return interpolation.resized(&clean, [rows, columns]).map(Self::Latent),
            Upscaler::Picture(filter) => (*filter, None),
            Upscaler::Network(network) => (Filter::Lanczos, Some(&**network)),
        };
        let kept = [rows * card.factor, columns * card.factor];
        let picture = |picture: usize| {
            let pixels = before.decode(clean.0.clone().narrow(0, picture, 1), inside)?;
            finite(Stage::Image, &pixels)?;
            let (rgb, from) = larger(pixels, network.1, size, inside)?;
            let rgb = network.0.resized(&rgb, from, [size.height, size.width]);
            let pixels = as_pixels(&rgb, [size.height, size.width], &clean.0.device()) * 2.0 - 1.0;
            Ok(pixels.narrow(2, 0, kept[0]).narrow(3, 0, kept[1]))
        };
        let all = (0..pictures).map(picture).collect::<Result<_, Error>>()?;
        Ok(Self::Pictures(Tensor::cat(all, 0)))
    }

    /// The latent that the pass starts from; `own` is the autoencoder of its model. What is left of an odd number of pixels is cut off behind.
    ///
    /// # Errors
    /// Those of encoding, and [`Error::NotFinite`].
    pub(crate) fn cut(self, pass: &Pass, card: &Card, own: &dyn Autoencoder, inside: &Inside) -> Result<Latent, Error> {
        let [_, height, width] = card.latent_shape(pass.size);
        let latent = match self {
            Self::Latent(latent) => latent.0,
            Self::Pictures(pixels) => {
                let latent = own.encode(pixels, None, inside)?;
                finite(Stage::Start, &latent)?;
                latent
            }
        };
        let [_, _, rows, columns] = latent.dims();
        let before = |had: usize, kept: usize| had.saturating_sub(kept) / 2;
        let latent = latent.narrow(2, before(rows, height), height.min(rows));
        Ok(Latent(latent.narrow(3, before(columns, width), width.min(columns))))
    }
}

/// The bytes of a picture, `[1, 3, h, w]`, -1 to 1, with a network's help where there is one, and their height and width.
fn larger(
    pixels: Tensor<4>,
    network: Option<&dyn PixelUpscaler>,
    to: Size,
    inside: &Inside,
) -> Result<(Vec<u8>, [usize; 2]), Error> {
    let device = pixels.device();
    // Bytes are cut off, not rounded, as in decode_first_stage's caller.
    let [_, _, mut height, mut width] = pixels.dims();
    let mut rgb = as_bytes((pixels + 1.0) / 2.0, |byte| byte)?;
    let Some(network) = network else { return Ok((rgb, [height, width])) };
    for _ in 0..Upscaler::MOST {
        if height >= to.height && width >= to.width {
            break;
        }
        let made = network.upscale(as_pixels(&rgb, [height, width], &device), inside)?;
        finite(Stage::Start, &made)?;
        let before = [height, width];
        [_, _, height, width] = made.dims();
        rgb = as_bytes(made, f32::round)?;
        if before == [height, width] {
            // One that only cleans a picture does so once.
            break;
        }
    }
    Ok((rgb, [height, width]))
}

/// `[1, 3, h, w]`, 0 to 1, as rows of bytes.
fn as_bytes(pixels: Tensor<4>, whole: fn(f32) -> f32) -> Result<Vec<u8>, Error> {
    let rows = into_host(pixels.swap_dims(1, 2).swap_dims(2, 3))?; // 1 c h w -> 1 h w c
    Ok(rows.into_iter().map(|value| whole(value.clamp(0.0, 1.0) * 255.0) as u8).collect())
}

/// Rows of bytes as `[1, 3, h, w]`, 0 to 1.
fn as_pixels(rgb: &[u8], [height, width]: [usize; 2], device: &Device) -> Tensor<4> {
    let values = rgb.iter().map(|byte| f32::from(*byte) / 255.0).collect();
    let rows: Tensor<4> = tensor(values, [1, height, width, 3], device);
    rows.swap_dims(2, 3).swap_dims(1, 2) // 1 h w c -> 1 c h w
}
