//! What the network is told to draw: the tokens of a prompt as its text encoders make vectors of them, and a vector of the picture as a
//! whole.

use core_tensor::{Device, Tensor, tensor};
use diffusion_engine::{
    Clip, ClipTokenizer, Embedding, Embeddings, Encoded, Error, Filling, Inside, Piece, Prompt, Stream, chunked,
    weighted,
};

use crate::{Edition, edition::NUMBER_CHANNELS, settings::Settings};

/// The text encoders of an edition.
#[derive(Debug)]
pub struct TextEncoders {
    edition: Edition,
    tokenizer: ClipTokenizer,
    embeddings: Embeddings,
    /// CLIP-L, or OpenCLIP-H of 2.x; not in the refiner.
    first: Option<Clip>,
    /// OpenCLIP-bigG of XL and its refiner, with its projection.
    second: Option<Clip>,
    /// Layers at the end of 2.x's encoder that nothing is taken from: one where the file has all that OpenCLIP's has.
    unused: usize,
    device: Device,
}

/// How tokens are encoded by one of an edition's encoders.
#[derive(Clone, Copy)]
struct Manner {
    name: &'static str,
    filling: Filling,
    /// The layer that is taken, from the last, which is 1.
    layer: usize,
    /// Whether the final layer norm stands behind that.
    normed: bool,
}

const MAX_PERIOD: f32 = 10_000.0; // sgm ConcatTimestepEmbedderND: timestep_embedding

impl TextEncoders {
    /// Puts the encoders of an edition together; `unused` is how many layers at the end of 2.x's nothing is taken from.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], or [`Error::Model`] for an encoder that the edition needs and that is not there.
    pub fn new(
        edition: Edition,
        first: Option<Clip>,
        second: Option<Clip>,
        unused: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let needs = match edition {
            Edition::One | Edition::Two => [true, false],
            Edition::Xl => [true, true],
            Edition::Refiner => [false, true],
        };
        let has = [first.is_some(), second.is_some()];
        if needs.iter().zip(has).any(|(&needs, has)| needs && !has) {
            let told = |[first, second]: [bool; 2]| match (first, second) {
                (true, true) => "two",
                (true, false) => "the first alone",
                (false, true) => "the second alone",
                (false, false) => "none",
            };
            let (expected, found) = (format!("{} as {} has them", told(needs), edition.id()), told(has).to_owned());
            return Err(Error::Model { what: "the text encoders", expected, found });
        }
        Ok(Self {
            edition,
            tokenizer: ClipTokenizer::new()?,
            embeddings: Embeddings::default(),
            first: first
                .filter(|_| needs[0])
                .map(|clip| clip.called(if edition == Edition::Two { "clip_h" } else { "clip_l" })),
            second: second.filter(|_| needs[1]).map(|clip| clip.called("clip_g")),
            unused,
            device: device.clone(),
        })
    }

    /// The same with textual inversions, which prompts may name.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn with_embeddings(self, embeddings: Vec<Embedding>) -> Result<Self, Error> {
        Ok(Self { embeddings: Embeddings::of(&self.tokenizer, embeddings)?, ..self })
    }

    /// Width of a token's vector.
    pub fn width(&self) -> usize {
        self.each().map(|clip| clip.dimensions().width).sum()
    }

    /// Width of the vector of the picture as a whole; 0 for an edition without.
    pub fn vector_width(&self) -> usize {
        let pooled = self.second.as_ref().and_then(|clip| clip.dimensions().projection);
        pooled.map_or(0, |projection| projection.width) + self.edition.numbers() * NUMBER_CHANNELS
    }

    fn each(&self) -> impl Iterator<Item = &Clip> {
        self.first.iter().chain(&self.second)
    }

    /// How the first encoder, or the second, makes vectors of tokens.
    fn manner(&self, second: bool, clip_skip: usize) -> Manner {
        let manner = |name, filling, layer, normed| Manner { name, filling, layer, normed };
        // Forge backend/diffusion_engine/{sd15,sd20,sdxl}.py, dfdcbab: clip_skip, minimal_clip_skip, final_layer_norm.
        match (self.edition, second) {
            (Edition::One, _) => manner("clip_l", Filling::End, clip_skip, true),
            (Edition::Two, _) => manner("clip_h", Filling::Zero, clip_skip + self.unused, true),
            (Edition::Xl, false) => manner("clip_l", Filling::End, clip_skip.max(2), false),
            (Edition::Xl | Edition::Refiner, _) => manner("clip_g", Filling::Zero, clip_skip.max(2), false),
        }
    }

    /// Encodes a prompt: its tokens by all encoders side by side, one chunk after the other, and where the edition has one, the vector
    /// of the picture as a whole.
    ///
    /// # Errors
    /// [`Error::Request`] for a layer that an encoder has not, [`Error::Tokenizer`], and those of [`Inside`].
    pub(crate) fn encode(&self, prompt: &Prompt, inside: &Inside) -> Result<Encoded, Error> {
        let settings = Settings::of(prompt);
        let zeroed = settings.zeroed && self.edition.has_vector() && is_empty(prompt);
        let chunks = chunked(&self.tokenizer, &prompt.pieces, &self.embeddings, ClipTokenizer::TEXT)?;
        let (mut streams, mut ids, mut pooled) = (Vec::new(), Vec::new(), None);
        for (clip, second) in
            self.first.iter().map(|clip| (clip, false)).chain(self.second.iter().map(|clip| (clip, true)))
        {
            let Manner { name, filling, layer, normed } = self.manner(second, settings.clip_skip);
            let width = clip.dimensions().width;
            ids.push((name, chunks.iter().flat_map(|chunk| chunk.ids(filling)).collect()));
            let mut states = Vec::new();
            // One by one, so that a long prompt takes no more memory than a short one.
            for (i, chunk) in chunks.iter().enumerate() {
                let tokens = [chunk.tokens(filling, name, width, &self.device)?];
                let of_chunk = match second && i == 0 {
                    true => {
                        let (states, whole) = clip.states_and_pooled(&tokens, layer, normed, inside)?;
                        // What the first chunk says stands for the whole prompt.
                        pooled = Some(clip.projected(whole)?);
                        states
                    }
                    false => clip.states(&tokens, layer, normed, inside)?,
                };
                states.push(weighted(of_chunk, &[chunk.weights()], settings.emphasis));
            }
            streams.push(Tensor::cat(states, 1));
        }
        let context = Tensor::cat(streams, 2);
        let tokens = if zeroed { context.zeros_like() } else { context };
        let pooled = pooled.map(|pooled: Tensor<2>| {
            let pooled = if zeroed { pooled.zeros_like() } else { pooled };
            let numbers = embedded(&settings.numbers(self.edition), &pooled.device());
            Tensor::cat(vec![pooled, numbers], 1)
        });
        Ok(Encoded { streams: vec![Stream { encoder: "clip", tokens }], pooled, ids, cut: Vec::new() })
    }
}

/// Whether a prompt says nothing at all.
fn is_empty(prompt: &Prompt) -> bool {
    prompt.pieces.iter().all(|piece| match piece {
        Piece::Words { text, .. } => text.is_empty(),
        Piece::Break => false,
    })
}

/// Each number as cosines and then sines at falling frequencies, one after the other, `[1, numbers · 256]`; in f32 as the references.
fn embedded(numbers: &[f32], device: &Device) -> Tensor<2> {
    const HALF: usize = NUMBER_CHANNELS / 2;
    let of_number = |&number: &f32| {
        let angle = move |i: usize| number * (-MAX_PERIOD.ln() * i as f32 / HALF as f32).exp();
        (0..HALF).map(move |i| angle(i).cos()).chain((0..HALF).map(move |i| angle(i).sin()))
    };
    let channels: Vec<f32> = numbers.iter().flat_map(of_number).collect();
    let width = channels.len();
    tensor(channels, [1, width], device)
}
