//! What the network is told to draw: the tokens of a prompt as its text encoders make vectors of them, and a vector of the picture as a
//! whole.

use core_tensor::{Device, Tensor, tensor};
use diffusion_engine::{
    Chunk, Clip, ClipTokenizer, Embedding, Embeddings, Encoded, Error, Filling, Inside, LentEmbeddings, Piece, Prompt,
    Row, Stream, chunked, weighted_together,
};

use crate::{Edition, edition::NUMBER_CHANNELS, settings::Settings};

/// The text encoders of an edition.
#[derive(Debug)]
pub struct TextEncoders {
    edition: Edition,
    tokenizer: ClipTokenizer,
    embeddings: Embeddings,
    /// Those that LoRAs bring.
    lent: LentEmbeddings,
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
            lent: LentEmbeddings::default(),
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

    /// The same with textual inversions that come and go.
    pub fn with_lent(self, lent: LentEmbeddings) -> Self {
        Self { lent, ..self }
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

    /// Encodes what a prompt comes to in turn, each with how often it counts where a mean is taken of all: its tokens by all encoders side
    /// by side, one chunk after the other, and where the edition has one, the vector of the picture as a whole.
    ///
    /// All get as many chunks as the longest has. Reference: classic_engine.py `__call__`, which is given all of them at once.
    ///
    /// # Errors
    /// [`Error::Request`] for a layer that an encoder has not, [`Error::Tokenizer`], and those of [`Inside`].
    pub(crate) fn encode(&self, prompts: &[(Prompt, usize)], inside: &Inside) -> Result<Vec<Encoded>, Error> {
        let Some(settings) = prompts.first().map(|(prompt, _)| Settings::of(prompt)) else { return Ok(Vec::new()) };
        let says_nothing = prompts.iter().all(|(prompt, _)| prompt.pieces.is_empty());
        let zeroed = settings.zeroed && self.edition.has_vector() && says_nothing;
        let known = self.embeddings.clone().and(&self.tokenizer, self.lent.get())?;
        let cut = |pieces: &[Piece]| chunked(&self.tokenizer, pieces, &known, ClipTokenizer::TEXT);
        let mut chunks = prompts.iter().map(|(prompt, _)| cut(&prompt.pieces)).collect::<Result<Vec<_>, Error>>()?;
        let most = chunks.iter().map(Vec::len).max().unwrap_or(0);
        let empty = cut(&[])?.remove(0);
        chunks.iter_mut().for_each(|chunks| chunks.resize(most, empty.clone()));

        let mut all: Vec<Parts> = chunks.iter().map(|_| Parts::default()).collect();
        for (clip, second) in self.clips() {
            let manner = self.manner(second, settings.clip_skip);
            for (parts, chunks) in all.iter_mut().zip(&chunks) {
                parts.ids.push((manner.name, chunks.iter().flat_map(|chunk| chunk.ids(manner.filling)).collect()));
            }
            for i in 0..most {
                let rows: Vec<&Chunk> = chunks.iter().map(|chunks| &chunks[i]).collect();
                // What the first chunk says stands for the whole prompt.
                let seen = self.seen(clip, manner, &rows, second && i == 0, inside)?;
                let weighed = seen.iter().zip(&rows).zip(prompts).map(|((seen, chunk), (_, times))| Row {
                    states: seen.states.clone(),
                    weights: chunk.weights(),
                    times: *times,
                });
                let states = weighted_together(weighed.collect(), settings.emphasis)?;
                for ((parts, states), seen) in all.iter_mut().zip(states).zip(seen) {
                    parts.add(manner.name, states);
                    parts.pooled = parts.pooled.take().or(seen.pooled);
                }
            }
        }
        let numbers = settings.numbers(self.edition);
        Ok(all.into_iter().map(|parts| parts.together(zeroed, &numbers)).collect())
    }

    /// What an encoder makes of each of these chunks, and if asked for, the vector that stands for it. Equal ones are seen once, and one
    /// after the other, so that many take no more memory than one.
    fn seen(
        &self,
        clip: &Clip,
        manner: Manner,
        chunks: &[&Chunk],
        whole: bool,
        inside: &Inside,
    ) -> Result<Vec<Seen>, Error> {
        let Manner { name, filling, layer, normed } = manner;
        let mut all: Vec<Seen> = Vec::new();
        for (i, chunk) in chunks.iter().enumerate() {
            if let Some(known) = chunks[..i].iter().position(|known| known == chunk) {
                all.push(all[known].clone());
                continue;
            }
            let tokens = [chunk.tokens(filling, name, clip.dimensions().width, &self.device)?];
            all.push(if whole {
                let (states, pooled) = clip.states_and_pooled(&tokens, layer, normed, inside)?;
                Seen { states, pooled: Some(clip.projected(pooled)?) }
            } else {
                Seen { states: clip.states(&tokens, layer, normed, inside)?, pooled: None }
            });
        }
        Ok(all)
    }

    /// The encoders, and whether each is the second one.
    fn clips(&self) -> impl Iterator<Item = (&Clip, bool)> {
        self.first.iter().map(|clip| (clip, false)).chain(self.second.iter().map(|clip| (clip, true)))
    }
}

/// What an encoder makes of a chunk: `[1, tokens, width]`, and `[1, width]` where it stands for the whole prompt.
#[derive(Clone)]
struct Seen {
    states: Tensor<3>,
    pooled: Option<Tensor<2>>,
}

/// An encoded prompt in the making.
#[derive(Default)]
struct Parts {
    ids: Vec<(&'static str, Vec<usize>)>,
    /// By encoder, one chunk after the other.
    streams: Vec<(&'static str, Vec<Tensor<3>>)>,
    pooled: Option<Tensor<2>>,
}

impl Parts {
    fn add(&mut self, encoder: &'static str, states: Tensor<3>) {
        match self.streams.last_mut() {
            Some((name, chunks)) if *name == encoder => chunks.push(states),
            _ => self.streams.push((encoder, vec![states])),
        }
    }

    /// The encoders side by side, all zeros if it is to be, and beside the vector of the whole what is said in numbers.
    fn together(self, zeroed: bool, numbers: &[f32]) -> Encoded {
        let streams = self.streams.into_iter().map(|(_, chunks)| Tensor::cat(chunks, 1)).collect();
        let context: Tensor<3> = Tensor::cat(streams, 2);
        let tokens = if zeroed { context.zeros_like() } else { context };
        let pooled = self.pooled.map(|pooled| {
            let pooled = if zeroed { pooled.zeros_like() } else { pooled };
            let numbers = embedded(numbers, &pooled.device());
            Tensor::cat(vec![pooled, numbers], 1)
        });
        Encoded { streams: vec![Stream { encoder: "clip", tokens }], pooled, ids: self.ids, cut: Vec::new() }
    }
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
