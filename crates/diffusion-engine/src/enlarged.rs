use core_tensor::Latent;

use crate::{Card, Pass, Upscaler};

/// The clean latent of the pass before, in the size that a pass starts from: made larger, and its middle kept.
///
/// What is left of an odd number of pixels is cut off behind: Forge modules/processing.py `sample_hr_pass`, dfdcbab.
pub(crate) fn enlarged(pass: &Pass, card: &Card, clean: Latent) -> Latent {
    let [_, height, width] = card.latent_shape(pass.size);
    let [_, rows, columns] = card.latent_shape(pass.enlarged_to.unwrap_or(pass.size));
    let larger = match (&pass.upscaler, clean.0.dims()) {
        (_, [_, _, h, w]) if [h, w] == [rows, columns] => clean,
        (Upscaler::Latent(interpolation), _) => interpolation.resized(&clean, [rows, columns]),
    };
    middle(larger, [height, width])
}

fn middle(latent: Latent, [height, width]: [usize; 2]) -> Latent {
    let [_, _, rows, columns] = latent.0.dims();
    let before = |had: usize, kept: usize| had.saturating_sub(kept) / 2;
    let latent = latent.0.narrow(2, before(rows, height), height.min(rows));
    Latent(latent.narrow(3, before(columns, width), width.min(columns)))
}
