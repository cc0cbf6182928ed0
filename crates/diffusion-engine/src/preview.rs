use std::sync::Arc;

use core_tensor::{Tensor, on_host, tensor};

use crate::{Autoencoder, Error, Image, Inside, LatentRgb, Model, Stage, finite::finite, models::Current, wrap::Watch};

/// A look at the pictures of a run in the making: what its model sees in the latent, at the last call. Clones share it.
#[derive(Clone)]
pub struct Preview {
    model: Current,
    watch: Watch,
    decoder: Option<Arc<dyn Autoencoder>>,
    /// As the run's [`Inside::room`].
    room: Option<u64>,
}

/// How often a corner goes into each side of a picture.
const CORNER: usize = 8;

/// The least of its sides, in pixels of the latent; on fewer a decoder takes nearly as long.
const LEAST_CORNER: usize = 8;

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Preview").finish_non_exhaustive()
    }
}

impl Preview {
    pub(crate) fn new(model: Current, watch: Watch, room: Option<u64>) -> Self {
        Self { model, watch, decoder: None, room }
    }

    /// The same, decoded by this, such as a tiny decoder.
    #[must_use]
    pub fn decoded_by(self, decoder: Arc<dyn Autoencoder>) -> Self {
        Self { decoder: Some(decoder), ..self }
    }

    /// The first picture of the batch as it looks now; `None` before the model was called, and while one takes another's place.
    ///
    /// Without a decoder of its own it has a pixel for each of the latent's where the model's card says how its channels look, and is
    /// decoded as pictures are otherwise.
    ///
    /// # Errors
    /// [`Error::NotFinite`], or those of decoding.
    pub fn image(&self) -> Result<Option<Image>, Error> {
        let (Some(latent), Some(model)) = (self.watch.latest(), self.model.get()) else { return Ok(None) };
        self.seen(latent.0.narrow(0, 0, 1), &model).map(Some)
    }

    /// A corner of that picture, and its share of the whole: for who wants to know what [`Preview::image`] takes before it is asked for one.
    ///
    /// # Errors
    /// As [`Preview::image`].
    pub fn corner(&self) -> Result<Option<(Image, f64)>, Error> {
        let (Some(latent), Some(model)) = (self.watch.latest(), self.model.get()) else { return Ok(None) };
        let [_, _, height, width] = latent.0.dims();
        let [h, w] = [height, width].map(|side| (side / CORNER).max(LEAST_CORNER).min(side));
        let corner = latent.0.narrow(0, 0, 1).narrow(2, 0, h).narrow(3, 0, w);
        Ok(Some((self.seen(corner, &model)?, (h * w) as f64 / (height * width) as f64)))
    }

    /// `[1, channels, h, w]`
    fn seen(&self, latent: Tensor<4>, model: &Arc<dyn Model>) -> Result<Image, Error> {
        let inside = Inside::default().within(self.room);
        let pixels = match (&self.decoder, &model.card().preview) {
            (Some(decoder), _) => decoder.decode(latent, &inside)?,
            (None, Some(colours)) => projected(&latent, colours)?,
            (None, None) => model.clone().vae().decode(latent, &inside)?,
        };
        finite(Stage::Preview, &pixels)?;
        Image::of(pixels.clamp(-1.0, 1.0), String::new())
    }
}

/// `[1, channels, h, w]` to `[1, 3, h, w]`, -1 to 1.
fn projected(latent: &Tensor<4>, colours: &LatentRgb) -> Result<Tensor<4>, Error> {
    let [_, channels, h, w] = latent.dims();
    let (latents, area) = (on_host(latent)?, h * w);
    let colour = |rgb: usize, pixel: usize| {
        let weighted = (0..channels).zip(colours.factors).map(|(c, factors)| latents[c * area + pixel] * factors[rgb]);
        weighted.sum::<f32>() + colours.bias[rgb]
    };
    let pixels = (0..3).flat_map(|rgb| (0..area).map(move |pixel| colour(rgb, pixel))).collect();
    Ok(tensor(pixels, [1, 3, h, w], &latent.device()))
}
