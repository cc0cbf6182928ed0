use core_tensor::{Device, Latent, Tensor};
use diffusion_engine::{
    AutoencoderKl, Clip, ClipTokenizer, Conditioning, Cut, Error, Model, Size, T5, T5Dimensions, T5Tokenizer, Txt2Img,
};
use samplers::{Denoised, Denoiser, Prediction, SigmaSpace, SigmaSpace::Flow};

use crate::{Dimensions, Inputs, Transformer};

/// A complete Flux: transformer, both text encoders and the autoencoder.
pub struct Flux {
    name: String,
    transformer: Transformer,
    clip: Clip,
    clip_tokenizer: ClipTokenizer,
    t5: T5,
    t5_tokenizer: T5Tokenizer,
    vae: AutoencoderKl,
    device: Device,
}

/// Pixels of the latent that one token covers, in each direction.
pub const PATCH: usize = 2; // flux/sampling.py prepare: "(ph pw)", ph=2, pw=2

/// What building both tokenizers takes, and what they keep; measured at 30 MiB.
const TOKENIZERS: u64 = 32 << 20;

/// Rows of a matrix that are unpacked at a time where it stays in its file.
const PANEL_ROWS: usize = 512; // core_tensor: MappedMatrix

/// Columns of the widest panel that a kernel packs.
const PANEL_WIDTH: usize = 32; // kernels: two vectors of sixteen

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
        vae: AutoencoderKl,
        device: &Device,
    ) -> Result<Self, Error> {
        Self::fit(transformer.dimensions(), &clip, &t5, &vae)?;
        Ok(Self {
            clip_tokenizer: ClipTokenizer::new()?,
            t5_tokenizer: T5Tokenizer::new()?,
            device: device.clone(),
            name,
            transformer,
            clip,
            t5,
            vae,
        })
    }

    /// Whether parts fit each other, which their headers tell.
    ///
    /// # Errors
    /// [`Error::Model`] if they do not.
    pub fn fit(dimensions: &Dimensions, clip: &Clip, t5: &T5, vae: &AutoencoderKl) -> Result<(), Error> {
        let fits = [
            ("the T5 encoder's width", dimensions.context, t5.width()),
            ("the CLIP encoder's width", dimensions.pooled, clip.width()),
            ("the autoencoder's channels", dimensions.in_channels / (PATCH * PATCH), vae.channels()),
        ];
        for (what, expected, found) in fits {
            if expected != found {
                let expected = format!("{expected} as the transformer needs");
                return Err(Error::Model { what, expected, found: found.to_string() });
            }
        }
        Ok(())
    }

    /// How many bytes a run needs beside the weights at most: what the tokenizers keep, and the largest of what a block of the T5
    /// encoder, a block of the transformer and the finest level of the decoder, of `decoder_width` channels, hold at once.
    ///
    /// Counted from the code, where every matrix stays in its file, and rounded up; the decoder was measured at nine copies of its
    /// finest level.
    pub fn working_bytes(dimensions: &Dimensions, t5: &T5Dimensions, decoder_width: usize, request: &Txt2Img) -> u64 {
        let numbers = |of: &[(usize, usize)]| {
            of.iter().map(|&(times, n)| (times as u64).saturating_mul(n as u64)).fold(0, u64::saturating_add)
        };
        let Size { width, height } = request.size;
        let pixels = (width as u64).saturating_mul(height as u64);
        let text = request.t5_tokens(dimensions.guidance) as u64;
        let tokens = text.saturating_add(pixels / 256);
        // Queries, keys and values, twice where parts are put together, and what attention packs of them, heads filled up to a panel;
        // or both inner layers and their product.
        let panels = t5.heads.saturating_mul((t5.inner / t5.heads.max(1)).next_multiple_of(PANEL_WIDTH));
        let attention = numbers(&[(4, t5.width), (7, t5.inner), (1, panels)]);
        let encoder = text.saturating_mul(attention.max(numbers(&[(4, t5.width), (4, t5.mlp)])));
        let block = tokens.saturating_mul(numbers(&[(8, dimensions.hidden), (6, dimensions.mlp)]));
        let level = pixels.saturating_mul(numbers(&[(10, decoder_width)]));
        // A panel of the widest matrix, as it is stored and as it is multiplied with.
        let widest = t5.mlp.max(t5.width).max(dimensions.hidden.saturating_add(dimensions.mlp));
        let panel = numbers(&[(2 * PANEL_ROWS, widest)]);
        let prompts = text.saturating_mul(numbers(&[(4, dimensions.context)]));
        // Pictures are drawn one by one; a batch keeps their pixels.
        let pictures = pixels.saturating_mul(8 * request.batch as u64);
        let stage = encoder.max(block).max(level);
        let all = [stage, panel, prompts, pictures].into_iter().fold(0, u64::saturating_add);
        all.saturating_mul(4).saturating_add(TOKENIZERS)
    }

    fn distilled(&self) -> bool {
        self.transformer.dimensions().guidance
    }

    /// Rows and columns of a picture's tokens.
    fn grid(&self, size: Size) -> [usize; 2] {
        [size.height, size.width].map(|side| side / self.size_multiple())
    }
}

impl Model for Flux {
    fn size_multiple(&self) -> usize {
        self.vae.factor() * PATCH
    }

    fn latent_shape(&self, size: Size) -> [usize; 3] {
        [self.vae.channels(), size.height / self.vae.factor(), size.width / self.vae.factor()]
    }

    fn sigma_space(&self, request: &Txt2Img) -> SigmaSpace {
        let [rows, columns] = self.grid(request.size);
        let tokens = rows * columns;
        Flow { mu: request.profile.mu(self.distilled(), tokens), tokens }
    }

    fn encode(&self, prompt: &str, request: &Txt2Img) -> Result<Conditioning, Error> {
        let length = request.t5_tokens(self.distilled());
        let (t5_text, clip_text) = (self.t5_tokenizer.text(prompt)?, self.clip_tokenizer.text(prompt)?);
        let cuts = [
            Cut { encoder: "clip", kept: ClipTokenizer::TEXT, tokens: clip_text.len() },
            Cut { encoder: "t5", kept: length.saturating_sub(1), tokens: t5_text.len() },
        ];
        let (t5_ids, clip_ids) = (T5Tokenizer::marked(&t5_text, length), ClipTokenizer::marked(&clip_text));
        Ok(Conditioning {
            txt: self.t5.encode(&t5_ids),
            vec: self.clip.pooled(&clip_ids),
            ids: vec![("clip", clip_ids), ("t5", t5_ids)],
            cut: cuts.into_iter().filter(|cut| cut.kept < cut.tokens).collect(),
        })
    }

    fn denoiser<'m>(&'m self, prompt: &Conditioning, request: &Txt2Img) -> Box<dyn Denoiser + 'm> {
        let [_, text_tokens, _] = prompt.txt.dims();
        let [rows, columns] = self.grid(request.size);
        Box::new(Prompted {
            transformer: &self.transformer,
            txt: prompt.txt.clone(),
            vec: prompt.vec.clone(),
            pe: self.transformer.positions(text_tokens, rows, columns),
            guidance: request.guidance,
        })
    }

    fn decode(&self, latent: &Latent) -> Tensor<4> {
        one_by_one(&latent.0, |picture| self.vae.decode(picture))
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The transformer under one prompt, for pictures of one size.
struct Prompted<'m> {
    transformer: &'m Transformer,
    txt: Tensor<3>,
    vec: Tensor<2>,
    pe: core_tensor::ops::Rope,
    guidance: f32,
}

impl Denoiser for Prompted<'_> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        let [_, _, h, w] = x.0.dims();
        Ok(Latent(one_by_one(&x.0, |picture| {
            let velocity = self.transformer.forward(Inputs {
                img: pack(picture.clone()),
                txt: self.txt.clone(),
                vec: self.vec.clone(),
                timestep: sigma,
                guidance: self.guidance,
                pe: &self.pe,
            });
            Prediction::Flow.denoised(picture, unpack(velocity, h, w), sigma).0
        }))
        .into())
    }
}

/// Each picture of a batch by itself, so that none depends on the others in any bit and a batch takes no more memory than one:
/// larger matrices would be multiplied in another order, and a processor gains little from them.
fn one_by_one(batch: &Tensor<4>, picture: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let [b, ..] = batch.dims();
    Tensor::cat((0..b).map(|i| picture(batch.clone().narrow(0, i, 1))).collect(), 0)
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
