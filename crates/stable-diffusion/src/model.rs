use std::sync::Arc;

use core_tensor::{Device, Latent, Tensor, in_f32};
use diffusion_engine::{
    AnyVae, AnyVaeDimensions, Autoencoder, Card, Encoded, Error, Inside, Key, Model, Pass, Piece, Predictor, Prompt,
    Shown,
};
use samplers::{Options, Prediction, SigmaSpace, Value};

use crate::{
    Edition, TextEncoders, Trained, Unet, UnetDimensions,
    habits::Habits,
    knobs::{PREDICTION, ZERO_SNR, knobs},
    preview,
    settings::settings,
    times::Times,
};

/// A complete Stable Diffusion: UNet, text encoders and autoencoder.
#[derive(Debug)]
pub struct StableDiffusion {
    card: Card,
    edition: Edition,
    trained: Trained,
    unet: Unet,
    encoders: TextEncoders,
    vae: Arc<AnyVae>,
    /// What the folder says of whether an empty negative prompt is all zeros.
    zeroed: Option<bool>,
    device: Device,
}

/// Channels of a UNet's input that draws under a mask: the latent, the mask, and the latent of what lies around it.
pub(crate) const INPAINTING: usize = 9; // v1-inpainting-inference.yaml: in_channels

impl StableDiffusion {
    /// Puts loaded parts together; `name` is what the infotext calls the model.
    ///
    /// # Errors
    /// [`Error::Model`] if the parts do not fit each other.
    pub fn new(
        name: String,
        edition: Edition,
        trained: Trained,
        unet: Unet,
        encoders: TextEncoders,
        vae: AnyVae,
        device: &Device,
    ) -> Result<Self, Error> {
        let of_vae = vae.dimensions();
        Self::fit(unet.dimensions(), encoders.width(), encoders.vector_width(), &of_vae)?;
        let card = card(name, edition, &of_vae);
        let (vae, device) = (Arc::new(vae), device.clone());
        Ok(Self { card, edition, trained, unet, encoders, vae, zeroed: None, device })
    }

    /// The same with what the model's folder says of whether an empty negative prompt is all zeros (`force_zeros_for_empty_prompt`), where
    /// it says it.
    #[must_use]
    pub fn zeroing(self, zeroed: Option<bool>) -> Self {
        Self { zeroed, ..self }
    }

    /// Whether parts fit each other, which their headers tell: `width` is that of a token's vector of all text encoders, `vector` that of
    /// the vector of the picture as a whole.
    ///
    /// # Errors
    /// [`Error::Model`] if they do not.
    pub fn fit(unet: &UnetDimensions, width: usize, vector: usize, vae: &AnyVaeDimensions) -> Result<(), Error> {
        let fits = [
            ("the width of the text encoders", unet.context.unwrap_or(width), width),
            ("the width of the vector beside the prompt", unet.adm.unwrap_or(0), vector),
            ("the autoencoder's channels", unet.out_channels, vae.channels()),
        ];
        for (what, expected, found) in fits {
            if expected != found {
                let expected = format!("{expected} as the UNet needs");
                return Err(Error::Model { what, expected, found: found.to_string() });
            }
        }
        Ok(())
    }

    /// What the network's output is.
    fn prediction(&self, pass: &Pass) -> Prediction {
        match pass.knobs.name(PREDICTION.name) {
            Some("eps") => Prediction::Epsilon,
            Some("v") => Prediction::V,
            _ => self.trained.prediction,
        }
    }

    /// What a network for inpainting is shown beside the latent where a picture is drawn from noise alone: a mask over everything, and
    /// the latent of a gray picture, `[1, 5, h, w]`.
    ///
    /// Reference: Forge modules/processing.py `txt2img_image_conditioning`, dfdcbab, which draws the latent where this takes its mean.
    fn all_masked(&self, pass: &Pass, inside: &Inside) -> Result<Tensor<4>, Error> {
        let [_, rows, columns] = self.card.latent_shape(pass.size);
        let gray = Tensor::zeros([1, 3, pass.size.height, pass.size.width], &self.device);
        let latent = self.vae.encode(gray, None, inside)?;
        Ok(Tensor::cat(vec![Tensor::ones([1, 1, rows, columns], &self.device), latent], 1))
    }

    /// The same where a part of pictures is drawn anew: the mask at the latent's size, and the latent of each picture with that part gray,
    /// `[b, 5, h, w]`.
    ///
    /// Reference: Forge modules/processing.py `inpainting_image_conditioning`, dfdcbab, with the mean again; a mask's pixel is the first of
    /// those that it stands for, as torch's `nearest` has it.
    fn partly_masked(&self, pass: &Pass, shown: &Shown, mask: &Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let factor = self.card.factor;
        let [_, rows, columns] = self.card.latent_shape(pass.size);
        let small = mask.clone().reshape([1, rows, factor, columns, factor, 1]);
        let small = small.narrow(2, 0, 1).narrow(4, 0, 1).reshape([1, 1, rows, columns]);
        let beside = |picture: &Tensor<4>| {
            let kept = (mask.clone() * shown.hidden).neg() + 1.0;
            let latent = self.vae.encode(picture.clone() * kept, None, inside)?;
            Ok(Tensor::cat(vec![small.clone(), latent], 1))
        };
        Ok(Tensor::cat(shown.pictures.iter().map(beside).collect::<Result<_, Error>>()?, 0))
    }

    fn predicting(
        self: Arc<Self>,
        pass: &Pass,
        under: &[Arc<Encoded>],
        beside: Option<Tensor<4>>,
    ) -> Result<Box<dyn Predictor>, Error> {
        let prompted = |encoded: &Arc<Encoded>| {
            let (Some(stream), vector) = (encoded.streams.first(), encoded.pooled.clone()) else {
                let (expected, found) = ("tokens".into(), "another model's".into());
                return Err(Error::Request { what: "an encoded prompt", expected, found });
            };
            let widths = [stream.tokens.dims()[2], vector.as_ref().map_or(0, |vector| vector.dims()[1])];
            let needed = [self.encoders.width(), self.encoders.vector_width()];
            if widths != needed {
                let (expected, found) = (format!("{needed:?} wide"), format!("{widths:?}"));
                return Err(Error::Request { what: "an encoded prompt", expected, found });
            }
            Ok(Prompted { context: stream.tokens.clone(), vector })
        };
        let under = under.iter().map(prompted).collect::<Result<_, _>>()?;
        let times = Times::of(&self.sigma_space(pass), Habits::of(&pass.profile).timing);
        let prediction = self.prediction(pass);
        Ok(Box::new(Predicting { sd: self, under, beside, times, prediction }))
    }
}

/// What a Stable Diffusion with this autoencoder is.
pub(crate) fn card(name: String, edition: Edition, vae: &AnyVaeDimensions) -> Card {
    let (channels, factor) = (vae.channels(), vae.factor());
    let preview = ([channels, factor] == preview::LATENT).then(|| preview::of(edition));
    // Sides of a latent that are odd somewhere on the UNet's way down are rounded up there.
    Card { name, channels, factor, size_multiple: factor, preview }
}

/// Whether a UNet can be asked for pictures from noise alone.
///
/// # Errors
/// [`Error::Request`] for one that edits pictures.
pub(crate) fn draws_from_noise(unet: &UnetDimensions) -> Result<(), Error> {
    if [unet.out_channels, INPAINTING].contains(&unet.in_channels) {
        return Ok(());
    }
    let expected =
        "one that draws from noise: this one is shown a picture beside the latent, as instruct-pix2pix is".to_owned();
    let found = format!("a UNet of {} channels", unet.in_channels);
    Err(Error::Request { what: "the model", expected, found })
}

impl Model for StableDiffusion {
    fn card(&self) -> &Card {
        &self.card
    }

    fn sigma_space(&self, pass: &Pass) -> SigmaSpace {
        let zero_snr = match pass.knobs.name(ZERO_SNR.name) {
            Some("on") => true,
            Some("off") => false,
            _ => self.trained.zero_snr,
        };
        if zero_snr { SigmaSpace::ZeroSnr } else { SigmaSpace::Discrete }
    }

    fn predicts(&self, pass: &Pass) -> Option<Prediction> {
        Some(self.prediction(pass))
    }

    /// The levels of Align Your Steps are the edition's own (Forge modules/sd_schedulers.py: `is_sdxl`, dfdcbab).
    fn schedule_options(&self) -> Options {
        let mut options = Options::default();
        if self.edition.has_vector() {
            options.set("ays_model", Value::Name("sdxl".into()));
        }
        options
    }

    fn prompt(&self, pieces: Vec<Piece>, pass: &Pass) -> Prompt {
        Prompt { pieces, settings: settings(self.edition, self.zeroed, pass) }.weighed(pass.emphasis)
    }

    fn encode(&self, prompt: &Prompt, inside: &Inside) -> Result<Encoded, Error> {
        let one = [(prompt.clone(), 1)];
        Ok(self.encode_all(&one, inside)?.remove(0))
    }

    fn encode_all(&self, editions: &[(Prompt, usize)], inside: &Inside) -> Result<Vec<Encoded>, Error> {
        self.encoders.encode(editions, inside)
    }

    fn prepare(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error> {
        draws_from_noise(self.unet.dimensions())?;
        let beside = self.is_shown_pictures().then(|| self.all_masked(pass, inside)).transpose()?;
        self.predicting(pass, &under, beside)
    }

    fn prepare_shown(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        shown: &Shown,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error> {
        shown.none_controls()?;
        match &shown.mask {
            Some(mask) if self.is_shown_pictures() => {
                let beside = self.partly_masked(pass, shown, mask, inside)?;
                self.predicting(pass, &under, Some(beside))
            }
            Some(_) | None => self.prepare(pass, under, inside),
        }
    }

    fn is_shown_pictures(&self) -> bool {
        self.unet.dimensions().in_channels == INPAINTING
    }

    fn network(&self) -> &'static str {
        "unet"
    }

    fn knobs(&self) -> &[Key] {
        knobs()
    }

    fn vae(self: Arc<Self>) -> Arc<dyn Autoencoder> {
        self.vae.clone()
    }

    fn device(&self) -> &Device {
        &self.device
    }
}

/// The model under the prompts of a pass.
struct Predicting {
    sd: Arc<StableDiffusion>,
    under: Vec<Prompted>,
    /// What the network is shown behind the latent's channels: one for all pictures of the batch, or one for each.
    beside: Option<Tensor<4>>,
    times: Times,
    prediction: Prediction,
}

struct Prompted {
    context: Tensor<3>,
    vector: Option<Tensor<2>>,
}

impl Predictor for Predicting {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let Self { sd, under, beside, times, prediction } = self;
        let timestep = times.at(sigma);
        let of_picture = |prompted: &Prompted, at: usize, picture: Tensor<4>, inside: &Inside| {
            let shown = picture.clone() * prediction.input(sigma);
            let shown = match &beside {
                Some(beside) if beside.dims()[2..] != shown.dims()[2..] => {
                    let (expected, found) = ("the whole picture in each call".into(), "a part of it".into());
                    return Err(Error::Request { what: "what a model for inpainting draws", expected, found });
                }
                Some(beside) => {
                    let own = if beside.dims()[0] > 1 { at } else { 0 };
                    Tensor::cat(vec![shown, beside.clone().narrow(0, own, 1)], 1)
                }
                None => shown,
            };
            let output = sd.unet.forward(shown, timestep, prompted.context.clone(), prompted.vector.clone(), inside)?;
            Ok(prediction.denoised(picture, in_f32(output), sigma).0)
        };
        let of_batch = |&prompt: &usize| {
            let inside = inside.of_call(sigma, prompt);
            x.one_by_one(|i, picture| of_picture(&under[prompt], i, picture, &inside.of_picture(i)))
        };
        which.iter().map(of_batch).collect()
    }
}
