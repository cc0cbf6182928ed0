use std::sync::Arc;

use core_tensor::{Device, Tensor};
use samplers::{Options, Prediction, SigmaSpace};

use crate::{Encoded, Error, Inside, Key, Method, Pass, Piece, Predictor, Prompt, Size};

/// A loaded model of any family: everything between the words and the latent, and from the latent to pixels.
///
/// It knows no request: a run asks it for what a [`Pass`] needs, and several runs may do so at once.
pub trait Model: Send + Sync {
    /// What the model is.
    fn card(&self) -> &Card;

    /// The noise levels that it was trained on, for a pass.
    fn sigma_space(&self, pass: &Pass) -> SigmaSpace;

    /// What options of schedules are with it if they aren't set, where that is not their default.
    fn schedule_options(&self) -> Options {
        Options::default()
    }

    /// The pieces of a prompt as [`Model::encode`] takes them: with all that the pass says about their encoding.
    fn prompt(&self, pieces: Vec<Piece>, pass: &Pass) -> Prompt;

    /// A prompt as the networks see it.
    ///
    /// # Errors
    /// Text that has no tokens, settings that the encoders can't hold, or what [`Inside`] ends the call with.
    fn encode(&self, prompt: &Prompt, inside: &Inside) -> Result<Encoded, Error>;

    /// The prompts that the words of one prompt come to in a pass, in turn: each once, and how many of A1111's stretches of the
    /// pass it has, for models whose encodings of them depend on each other. One by one, if nothing else is said.
    ///
    /// # Errors
    /// As [`Model::encode`].
    fn encode_all(&self, editions: &[(Prompt, usize)], inside: &Inside) -> Result<Vec<Encoded>, Error> {
        editions.iter().map(|(prompt, _)| self.encode(prompt, inside)).collect()
    }

    /// The model made ready for the steps of a pass under these prompts: positions and what else is computed once. What `inside` says is
    /// for what is encoded then.
    ///
    /// # Errors
    /// What the model can't do of the pass, or what [`Inside`] ends the call with.
    fn prepare(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error>;

    /// [`Model::prepare`] with pictures: a model that is shown those that a pass starts from sees them beside the latent, and so does one that
    /// takes a control picture; the others are prepared as ever.
    ///
    /// # Errors
    /// As [`Model::prepare`], and [`Error::Request`] for a control picture that it does not take.
    fn prepare_shown(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        shown: &Shown,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error> {
        shown.none_controls()?;
        self.prepare(pass, under, inside)
    }

    /// Whether it is shown pictures beside the latent, as a model for inpainting is.
    fn is_shown_pictures(&self) -> bool {
        false
    }

    /// What can be set of its family's models alone, in [`Pass::knobs`]; infotexts say those that have a label.
    fn knobs(&self) -> &[Key] {
        &[]
    }

    /// What its network is, as [`Method::networks`] and [`Site::network`](crate::Site) call it; nothing for one that is none of those.
    fn network(&self) -> &'static str {
        ""
    }

    /// The ways of guiding it that its family has beside those of every model.
    fn methods(&self) -> &[Method] {
        &[]
    }

    /// What the network's output is in a pass; methods that are about that and not about latents take them where it isn't told.
    fn predicts(&self, _pass: &Pass) -> Option<Prediction> {
        None
    }

    /// What makes pixels of a latent. It should hold on to no network, which may leave before the pixels are made.
    fn vae(self: Arc<Self>) -> Arc<dyn Autoencoder>;

    /// The device that its tensors are on.
    fn device(&self) -> &Device;
}

/// The pictures that a pass starts from, as a model sees them that is shown them, and the one that controls it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Their pixels, `[1, 3, height, width]`, -1 to 1: one for all pictures of the batch, or one for each.
    pub pictures: Vec<Tensor<4>>,
    /// What of them is drawn anew, `[1, 1, height, width]`, 0 to 1; everything without it.
    pub mask: Option<Tensor<4>>,
    /// How much of that is hidden, 0 to 1.
    pub hidden: f32,
    /// A picture that says what goes where, such as the edges of what is to be drawn: `[1, 3, height, width]`, -1 to 1.
    pub control: Option<Tensor<4>>,
}

impl Shown {
    /// That there is no control picture, for models that take none.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn none_controls(&self) -> Result<(), Error> {
        match self.control {
            None => Ok(()),
            Some(_) => Err(Error::Request {
                what: "a control picture",
                expected: "a model that takes one, such as Flux Canny or Depth, or a LoRA that has Flux take one"
                    .into(),
                found: "a model that takes none".into(),
            }),
        }
    }
}

/// Makes pixels of latents, and latents of pixels.
pub trait Autoencoder: Send + Sync {
    /// The latent of one picture, `[1, channels, h, w]`, as pixels, `[1, 3, h · factor, w · factor]`, about -1 to 1.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with.
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error>;

    /// The latents of pictures as the model denoises them: `[b, 3, h, w]`, -1 to 1, to `[b, channels, h / factor, w / factor]`. Where an
    /// encoder knows a distribution, it is the mean; or with unit noise of the latents' shape, what that picks.
    ///
    /// # Errors
    /// [`Error::NoEncoder`] where it only decodes, [`Error::Request`] for sides that are no multiples of the factor or noise of another
    /// shape, and what [`Inside`] ends the call with.
    fn encode(&self, pixels: Tensor<4>, noise: Option<Tensor<4>>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let _ = (pixels, noise, inside);
        Err(Error::NoEncoder)
    }
}

/// What a model is, as far as a run has to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Its name in infotexts.
    pub name: String,
    /// Channels of a latent.
    pub channels: usize,
    /// How many pixels a latent's pixel becomes, in each direction.
    pub factor: usize,
    /// Width and height of a picture must be multiples of this many pixels.
    pub size_multiple: usize,
    /// How a latent is previewed; without it, by decoding.
    pub preview: Option<LatentRgb>,
}

impl Card {
    /// The shape of one picture's latent: channels, height, width.
    pub fn latent_shape(&self, size: Size) -> [usize; 3] {
        [self.channels, size.height / self.factor, size.width / self.factor]
    }
}

/// A cheap look at a latent: each pixel's colour is a sum of its channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentRgb {
    /// Red, green and blue of each channel.
    pub factors: &'static [[f32; 3]],
    /// What is added.
    pub bias: [f32; 3],
}
