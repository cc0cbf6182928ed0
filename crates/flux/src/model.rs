use std::sync::Arc;

use core_tensor::{Device, Latent, Tensor, in_f32, ops::Rope};
use diffusion_engine::{
    AnyVae, AnyVaeDimensions, Autoencoder, Card, Clip, ClipDimensions, ClipTokenizer, Cut, Encoded, Error, Inside, Key,
    LatentScaling, Model, Pass, Piece, Predictor, Prompt, Shown, Size, Stream, T5, T5Dimensions, T5Tokenizer, weighted,
};
use samplers::{Options, Prediction, SigmaSpace, SigmaSpace::Flow, Value};

use crate::{
    Dimensions, GUIDANCE, Inputs, Shift, T5_LENGTH, Transformer, habits,
    knobs::{DEFAULT_GUIDANCE, knobs},
    preview,
};

/// A complete Flux: transformer, both text encoders and the autoencoder.
#[derive(Debug)]
pub struct Flux {
    card: Card,
    transformer: Transformer,
    shift: Shift,
    clip: Clip,
    clip_tokenizer: ClipTokenizer,
    t5: T5,
    t5_tokenizer: T5Tokenizer,
    vae: Arc<AnyVae>,
    device: Device,
}

/// Pixels of the latent that one token covers, in each direction.
pub const PATCH: usize = 2; // flux/sampling.py prepare: "(ph pw)", ph=2, pw=2

/// How the latents of every Flux are scaled.
pub const LATENT_SCALING: LatentScaling = LatentScaling { scale: 0.3611, shift: 0.1159 }; // flux/util.py: AutoEncoderParams

/// Distilled guidance of Flux Fill, where nothing is said.
const FILL_GUIDANCE: f64 = 30.0; // flux/cli_fill.py, 802fb47

impl Flux {
    /// Puts loaded parts together; `name` is what the infotext calls the model.
    ///
    /// # Errors
    /// [`Error::Model`] if the parts do not fit each other.
    pub fn new(
        name: String,
        transformer: Transformer,
        clip: Clip,
        t5: T5,
        vae: AnyVae,
        device: &Device,
    ) -> Result<Self, Error> {
        Self::fit(transformer.dimensions(), clip.dimensions(), t5.dimensions(), &vae.dimensions())?;
        Ok(Self {
            clip_tokenizer: ClipTokenizer::new()?,
            t5_tokenizer: T5Tokenizer::new()?,
            card: card(name, &vae.dimensions()),
            device: device.clone(),
            shift: Shift::usual(transformer.dimensions().guidance),
            transformer,
            clip,
            t5,
            vae: Arc::new(vae),
        })
    }

    /// The same, whose time is shifted otherwise than that of Black Forest Labs' models.
    #[must_use]
    pub fn shifted(self, shift: Shift) -> Self {
        Self { shift, ..self }
    }

    /// Whether parts fit each other, which their headers tell.
    ///
    /// # Errors
    /// [`Error::Model`] if they do not.
    pub fn fit(
        dimensions: &Dimensions,
        clip: &ClipDimensions,
        t5: &T5Dimensions,
        vae: &AnyVaeDimensions,
    ) -> Result<(), Error> {
        let fits = [
            ("the T5 encoder's width", dimensions.context, t5.width),
            ("the CLIP encoder's width", dimensions.pooled, clip.width),
            ("the autoencoder's channels", dimensions.in_channels / (PATCH * PATCH), vae.channels()),
            // A masked picture's latent, and the mask's pixels.
            (
                "the channels beside the latent",
                dimensions.beside,
                match dimensions.beside {
                    beside if beside <= dimensions.in_channels => beside,
                    _ => PATCH * PATCH * (vae.channels() + vae.factor() * vae.factor()),
                },
            ),
        ];
        for (what, expected, found) in fits {
            if expected != found {
                let expected = format!("{expected} as the transformer needs");
                return Err(Error::Model { what, expected, found: found.to_string() });
            }
        }
        Ok(())
    }

    fn distilled(&self) -> bool {
        self.transformer.dimensions().guidance
    }

    /// Rows and columns of a picture's tokens.
    fn grid(&self, size: Size) -> [usize; 2] {
        [size.height, size.width].map(|side| side / self.card.size_multiple)
    }
}

/// What a Flux with this autoencoder is.
pub(crate) fn card(name: String, vae: &AnyVaeDimensions) -> Card {
    let (channels, factor) = (vae.channels(), vae.factor());
    let preview = (channels == preview::PREVIEW.factors.len() && factor == preview::FACTOR).then_some(preview::PREVIEW);
    Card { name, channels, factor, size_multiple: factor * PATCH, preview }
}

impl Model for Flux {
    fn card(&self) -> &Card {
        &self.card
    }

    fn sigma_space(&self, pass: &Pass) -> SigmaSpace {
        let [rows, columns] = self.grid(pass.size);
        let tokens = rows * columns;
        let factor = self.shift.factor(habits::shifted_as(&pass.profile, tokens));
        Flow { shift: Some(factor).filter(|&factor| factor != 1.0), tokens }
    }

    fn predicts(&self, _: &Pass) -> Option<Prediction> {
        Some(Prediction::Flow)
    }

    fn prompt(&self, pieces: Vec<Piece>, pass: &Pass) -> Prompt {
        let mut settings = Options::default();
        settings.set(T5_LENGTH.name, Value::Number(t5_tokens(pass, self.distilled()) as f64));
        Prompt { pieces, settings }.weighed(pass.emphasis)
    }

    fn encode(&self, prompt: &Prompt, inside: &Inside) -> Result<Encoded, Error> {
        let length = whole(&prompt.settings, T5_LENGTH.name).unwrap_or(0);
        let emphasis = prompt.emphasis();
        let (mut t5_text, mut clip_text, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for piece in &prompt.pieces {
            let Piece::Words { text, weight } = piece else { return Err(Error::NoChunks { model: "Flux" }) };
            t5_text.extend(self.t5_tokenizer.text(text)?);
            clip_text.extend(self.clip_tokenizer.text(text)?);
            weights.resize(t5_text.len(), *weight);
        }
        let cuts = [
            Cut { encoder: "clip", kept: ClipTokenizer::TEXT, tokens: clip_text.len() },
            Cut { encoder: "t5", kept: length.saturating_sub(1), tokens: t5_text.len() },
        ];
        let (t5_ids, clip_ids) = (T5Tokenizer::marked(&t5_text, length), ClipTokenizer::marked(&clip_text));
        // The end and what fills up count as they are.
        weights.truncate(length.saturating_sub(1));
        weights.resize(length, 1.0);
        let tokens = weighted(self.t5.encode(&t5_ids, inside)?, &[&weights], emphasis)?;
        Ok(Encoded {
            streams: vec![Stream { encoder: "t5", tokens }],
            pooled: Some(self.clip.pooled(&clip_ids, inside)?),
            ids: vec![("clip", clip_ids), ("t5", t5_ids)],
            cut: cuts.into_iter().filter(|cut| cut.kept < cut.tokens).collect(),
        })
    }

    fn prepare(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error> {
        let beside = match self.is_shown_pictures() {
            true => Some(self.all_masked(pass, inside)?),
            false if self.transformer.dimensions().beside > 0 => {
                let (expected, found) = ("one, which the model is shown beside the latent".into(), "none".into());
                return Err(Error::Request { what: "the control picture", expected, found });
            }
            false => None,
        };
        self.predicting(pass, under, beside)
    }

    fn prepare_shown(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        shown: &Shown,
        inside: &Inside,
    ) -> Result<Box<dyn Predictor>, Error> {
        if let Some(control) = &shown.control
            && self.takes_control()
        {
            let latent = self.vae.encode(control.clone(), None, inside)?;
            return self.predicting(pass, under, Some(pack(latent)));
        }
        shown.none_controls()?;
        match &shown.mask {
            Some(mask) if self.is_shown_pictures() => {
                let beside = self.masked(pass, &shown.pictures, mask, shown.hidden, inside)?;
                self.predicting(pass, under, Some(beside))
            }
            Some(_) | None => self.prepare(pass, under, inside),
        }
    }

    fn is_shown_pictures(&self) -> bool {
        let Dimensions { beside, in_channels, .. } = *self.transformer.dimensions();
        beside > in_channels
    }

    fn network(&self) -> &'static str {
        "transformer"
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

impl Flux {
    /// Whether it is shown a control picture, by its own inputs or by those of a LoRA.
    fn takes_control(&self) -> bool {
        let Dimensions { beside, in_channels, .. } = *self.transformer.dimensions();
        beside == in_channels || self.transformer.takes_control()
    }

    /// What Flux Fill is shown where a picture is drawn from noise alone: a gray picture, all of which is masked.
    fn all_masked(&self, pass: &Pass, inside: &Inside) -> Result<Tensor<3>, Error> {
        let Size { width, height } = pass.size;
        let gray = Tensor::zeros([1, 3, height, width], &self.device);
        self.masked(pass, &[gray], &Tensor::ones([1, 1, height, width], &self.device), 1.0, inside)
    }

    /// What Flux Fill is shown of pictures, `[b, image tokens, beside]`: the packed latent of each without what is masked, and the mask, of
    /// which each pixel is a channel.
    ///
    /// Reference: diffusers FluxFillPipeline `prepare_mask_latents`, 0.42.1, with the mean where that draws the latent.
    fn masked(
        &self,
        pass: &Pass,
        pictures: &[Tensor<4>],
        mask: &Tensor<4>,
        hidden: f32,
        inside: &Inside,
    ) -> Result<Tensor<3>, Error> {
        let factor = self.card.factor;
        let [_, h, w] = self.card.latent_shape(pass.size);
        let channels = mask.clone().reshape([1, h, factor, w, factor]).permute([0, 2, 4, 1, 3]); // b fh fw h w
        let packed = pack(channels.reshape([1, factor * factor, h, w]));
        let beside = |picture: &Tensor<4>| {
            let kept = (mask.clone() * hidden).neg() + 1.0;
            let latent = self.vae.encode(picture.clone() * kept, None, inside)?;
            Ok(Tensor::cat(vec![pack(latent), packed.clone()], 2))
        };
        Ok(Tensor::cat(pictures.iter().map(beside).collect::<Result<_, Error>>()?, 0))
    }

    /// BFL's own of each.
    fn usual_guidance(&self) -> f64 {
        if self.is_shown_pictures() { FILL_GUIDANCE } else { DEFAULT_GUIDANCE }
    }

    fn predicting(
        self: Arc<Self>,
        pass: &Pass,
        under: Vec<Arc<Encoded>>,
        beside: Option<Tensor<3>>,
    ) -> Result<Box<dyn Predictor>, Error> {
        let [rows, columns] = self.grid(pass.size);
        let prompted = |encoded: &Arc<Encoded>| {
            let (Some(stream), Some(vec)) = (encoded.streams.first(), &encoded.pooled) else {
                let (expected, found) = ("tokens and a vector for the whole".into(), "another model's".into());
                return Err(Error::Request { what: "an encoded prompt", expected, found });
            };
            let [_, tokens, _] = stream.tokens.dims();
            let pe = self.transformer.positions(tokens, rows, columns);
            Ok(Prompted { txt: stream.tokens.clone(), vec: vec.clone(), pe, grid: [rows, columns] })
        };
        let under = under.iter().map(prompted).collect::<Result<_, _>>()?;
        let guidance = pass.knobs.number(GUIDANCE.name).unwrap_or(self.usual_guidance()) as f32;
        Ok(Box::new(Predicting { flux: self, under, beside, guidance }))
    }
}

/// The model under the prompts of a pass.
struct Predicting {
    flux: Arc<Flux>,
    under: Vec<Prompted>,
    /// What the network is shown beside the latent: one for all pictures of the batch, or one for each.
    beside: Option<Tensor<3>>,
    guidance: f32,
}

/// A prompt, for pictures of one size.
struct Prompted {
    txt: Tensor<3>,
    vec: Tensor<2>,
    pe: Rope,
    /// Rows and columns of its tokens.
    grid: [usize; 2],
}

impl Predictor for Predicting {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let [_, _, h, w] = x.0.dims();
        let Self { flux, under, beside, guidance } = self;
        let of_picture = |prompted: &Prompted, at: usize, picture: Tensor<4>, inside: &Inside| {
            let img = pack(picture.clone());
            let shown = match &beside {
                Some(beside) if beside.dims()[1] != img.dims()[1] => {
                    let expected = format!("the {} tokens of the picture that it is shown", beside.dims()[1]);
                    let found = img.dims()[1].to_string();
                    return Err(Error::Request { what: "a part of a latent", expected, found });
                }
                Some(beside) => Some(beside.clone().narrow(0, if beside.dims()[0] > 1 { at } else { 0 }, 1)),
                None => None,
            };
            let (img, control) = match shown {
                Some(shown) if flux.transformer.dimensions().beside > 0 => (Tensor::cat(vec![img, shown], 2), None),
                shown => (img, shown),
            };
            let text = prompted.txt.dims()[1];
            // A tile of the picture that the prompt was made ready for has positions of its own.
            let of_tile = (prompted.grid != [h / PATCH, w / PATCH])
                .then(|| flux.transformer.positions(text, h / PATCH, w / PATCH));
            let inputs = Inputs {
                img,
                control,
                txt: prompted.txt.clone(),
                vec: prompted.vec.clone(),
                timestep: sigma,
                guidance: *guidance,
                pe: of_tile.as_ref().unwrap_or(&prompted.pe),
            };
            let velocity = in_f32(flux.transformer.forward(inputs, inside)?);
            Ok(Prediction::Flow.denoised(picture, unpack(velocity, h, w), sigma).0)
        };
        let of_batch = |&prompt: &usize| {
            let inside = inside.of_call(sigma, prompt);
            x.one_by_one(|i, picture| of_picture(&under[prompt], i, picture, &inside.of_picture(i)))
        };
        which.iter().map(of_batch).collect()
    }
}

/// T5 tokens that the prompts of a pass are padded to: as asked, or as the profile has it for a model with or without distilled
/// guidance.
pub(crate) fn t5_tokens(pass: &Pass, distilled: bool) -> usize {
    whole(&pass.knobs, T5_LENGTH.name).unwrap_or_else(|| habits::t5_length(&pass.profile, distilled))
}

fn whole(settings: &Options, name: &str) -> Option<usize> {
    settings.number(name).map(|number| number as usize)
}

/// A latent as tokens of 2 × 2 pixels, `[b, c, h, w]` to `[b, h/2 · w/2, c · 4]`.
pub fn pack(x: Tensor<4>) -> Tensor<3> {
    let [b, c, h, w] = x.dims();
    x.reshape([b, c, h / 2, 2, w / 2, 2]) // b c h ph w pw
        .permute([0, 2, 4, 1, 3, 5]) // b h w c ph pw
        .reshape([b, h * w / 4, c * 4])
}

/// The inverse of [`pack`], for a latent of `h × w`.
pub fn unpack(x: Tensor<3>, h: usize, w: usize) -> Tensor<4> {
    let [b, _, channels] = x.dims();
    let c = channels / 4;
    x.reshape([b, h / 2, w / 2, c, 2, 2]) // b h w c ph pw
        .permute([0, 3, 1, 4, 2, 5]) // b c h ph w pw
        .reshape([b, c, h, w])
}
