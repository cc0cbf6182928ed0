use std::sync::Arc;

use core_tensor::{Tensor, on_host, tensor};

use crate::{Error, Image, Inside, LatentRgb, Model, Stage, finite::finite, wrap::Watch};

/// A look at the pictures of a run in the making: what its model sees in the latent, at the last call. Clones share it.
#[derive(Clone)]
pub struct Preview {
    model: Arc<dyn Model>,
    watch: Watch,
}

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Preview").finish_non_exhaustive()
    }
}

impl Preview {
    pub(crate) fn new(model: Arc<dyn Model>, watch: Watch) -> Self {
        Self { model, watch }
    }

    /// The first picture of the batch as it looks now; `None` before the model was called.
    ///
    /// It has a pixel for each of the latent's where the model's card says how its channels look, and is decoded otherwise.
    ///
    /// # Errors
    /// [`Error::NotFinite`], or those of decoding.
    pub fn image(&self) -> Result<Option<Image>, Error> {
        let Some(latent) = self.watch.latest() else { return Ok(None) };
        let latent = latent.0.narrow(0, 0, 1);
        let pixels = match &self.model.card().preview {
            Some(colours) => projected(&latent, colours)?,
            None => self.model.clone().vae().decode(latent, &Inside::default())?,
        };
        finite(Stage::Preview, &pixels)?;
        Image::of(pixels.clamp(-1.0, 1.0), String::new()).map(Some)
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
