use core_tensor::Latent;

use crate::{Error, Inside};

/// A model under the prompts of a pass.
pub trait Predictor: Send {
    /// The clean latents that the model sees in `x` at a noise level, `[b, channels, h, w]`: one for each of `which`, in that order,
    /// as one batch or one after the other. `which` are indices of the prompts that [`Model::prepare`](crate::Model::prepare) was given.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with, or the model's own.
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error>;
}
