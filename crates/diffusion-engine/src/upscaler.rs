//! What makes a picture larger between two passes.

use core_tensor::Tensor;

use crate::{Error, Inside, Size};

/// Makes a picture larger by a factor of its own, as networks for super-resolution do.
pub trait PixelUpscaler: Send + Sync {
    /// What infotexts call it.
    fn name(&self) -> &str;

    /// How many pixels a pixel becomes, in each direction.
    fn factor(&self) -> usize;

    /// Bytes that a picture of this size takes at most, beside what the upscaler itself holds.
    fn working_bytes(&self, from: Size) -> u64;

    /// One picture, `[1, 3, h, w]`, 0 to 1, with [`PixelUpscaler::factor`] times as many pixels in each direction. What it makes may
    /// leave 0 to 1 a little.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with, or the upscaler's own.
    fn upscale(&self, picture: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error>;
}
