use std::fmt;

use core_tensor::{Latent, Tensor};
use samplers::{Denoiser, SigmaSpace};

use crate::{Error, Txt2Img};

/// A family of models, as the story needs it: everything between the words and the latent, and from the latent to pixels.
pub trait Model: Send {
    /// Width and height of a picture must be multiples of this many pixels.
    fn size_multiple(&self) -> usize;

    /// The shape of one picture's latent: channels, height, width.
    fn latent_shape(&self, size: Size) -> [usize; 3];

    /// The noise levels this model was trained on, for a picture of the request's size.
    fn sigma_space(&self, request: &Txt2Img) -> SigmaSpace;

    /// A prompt as the model sees it.
    ///
    /// # Errors
    /// Text that has no tokens, or a request that the encoders can't hold.
    fn encode(&self, prompt: &str, request: &Txt2Img) -> Result<Conditioning, Error>;

    /// The model under one prompt, ready for the steps of one run.
    fn denoiser<'m>(&'m self, prompt: &Conditioning, request: &Txt2Img) -> Box<dyn Denoiser + 'm>;

    /// A latent as pixels, `[b, 3, h, w]`, about -1 to 1.
    fn decode(&self, latent: &Latent) -> Tensor<4>;

    /// A device to make tensors on.
    fn device(&self) -> &core_tensor::Device;

    /// The model's name for the infotext.
    fn name(&self) -> &str;
}

/// An encoded prompt.
#[derive(Clone)]
pub struct Conditioning {
    /// One vector per token, `[1, tokens, width]`.
    pub txt: Tensor<3>,
    /// One vector for the whole prompt, `[1, width]`.
    pub vec: Tensor<2>,
    /// The token ids that each encoder was given, under the encoder's name.
    pub ids: Vec<(&'static str, Vec<usize>)>,
    /// The encoders that did not see the whole prompt.
    pub cut: Vec<Cut>,
}

/// A prompt that was longer than an encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The encoder's name.
    pub encoder: &'static str,
    /// Tokens that the encoder was given.
    pub kept: usize,
    /// Tokens that the prompt has.
    pub tokens: usize,
}

/// A picture's size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Size {
    /// The largest side that is accepted.
    pub const MAX: usize = 16_384;

    /// A size whose sides are both multiples of `multiple`.
    ///
    /// # Errors
    /// [`Error::Request`] with the nearest sides that would do.
    pub fn checked(self, multiple: usize) -> Result<Self, Error> {
        for (what, found) in [("width", self.width), ("height", self.height)] {
            let request = |expected| Err(Error::Request { what, expected, found: found.to_string() });
            if !(multiple..=Self::MAX).contains(&found) {
                return request(format!("{multiple} to {}", Self::MAX));
            }
            if found % multiple != 0 {
                let below = found / multiple * multiple;
                return request(format!("a multiple of {multiple}, nearest are {below} and {}", below + multiple));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Receives the value after each layer, under the layer's name; how the parity tests look inside.
pub type Tap<'a> = &'a mut dyn FnMut(&str, &Tensor<3>);

/// A [`Tap`] that lets everything pass.
pub fn no_tap(_: &str, _: &Tensor<3>) {}
