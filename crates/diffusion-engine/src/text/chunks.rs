//! Prompts of any length, as chunks that CLIP's text encoders see one by one.
//!
//! The rules are those of A1111's web UI and Forge, so that their pictures come out again: lllyasviel/stable-diffusion-webui-forge
//! `backend/text_processing/classic_engine.py`, dfdcbab.

use std::{mem, sync::Arc};

use core_tensor::{Device, Tensor};

use super::{
    clip::Tokens,
    clip_tokenizer::ClipTokenizer,
    embedding::Embedding,
    embeddings::{Embeddings, Stretch},
};
use crate::{Error, Piece};

/// What a text encoder sees at once of a prompt: a start mark, tokens, and end marks, each with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    ids: Vec<usize>,
    weights: Vec<f32>,
    inversions: Vec<(usize, Arc<Embedding>)>,
}

/// What stands behind the first end mark of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// End marks, as OpenAI's CLIP was trained with.
    End,
    /// Token 0, which is `!`, as in OpenCLIP's H and bigG.
    Zero,
}

/// How many tokens behind a comma are moved to the next chunk at most, so that it begins with a whole phrase.
const BACKTRACK: usize = 20; // classic_engine.py: comma_padding_backtrack

/// A prompt in chunks of `text` tokens between their marks, at least one. All that is behind a `BREAK` is in further chunks; a
/// textual inversion is not divided. `text` is [`ClipTokenizer::TEXT`] but for an encoder with more positions.
///
/// # Errors
/// [`Error::Tokenizer`], [`Error::NoEmbedding`], or [`Error::EmbeddingLength`] for a textual inversion that no chunk can hold.
pub fn chunked(
    tokenizer: &ClipTokenizer,
    pieces: &[Piece],
    embeddings: &Embeddings,
    text: usize,
) -> Result<Vec<Chunk>, Error> {
    let mut filling = Cutting { text, chunks: Vec::new(), open: Open::default(), last_comma: None };
    for piece in pieces {
        let Piece::Words { text: words, weight } = piece else {
            filling.close();
            continue;
        };
        for stretch in embeddings.named(words)? {
            match stretch {
                Stretch::Words(words) => filling.words(&tokenizer.text(words)?, *weight, embeddings)?,
                Stretch::Named(embedding) => filling.inversion(&embedding, *weight)?,
            }
        }
    }
    Ok(filling.chunks())
}

impl Chunk {
    /// Every token's weight, those of the marks 1.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The token ids. Where textual inversions stand, they are 0.
    pub fn ids(&self, filling: Filling) -> Vec<usize> {
        let end = self.ids.iter().position(|&id| id == ClipTokenizer::END).unwrap_or(self.ids.len());
        let filled = |(i, &id): (usize, &usize)| match filling {
            Filling::Zero if i > end => 0,
            Filling::Zero | Filling::End => id,
        };
        self.ids.iter().enumerate().map(filled).collect()
    }

    /// The textual inversions, and which of the chunk's tokens each begins at.
    ///
    /// One among the tokens that were moved behind a comma is still at its old place, behind the text, and its tokens in the next
    /// chunk are 0: A1111 and Forge move the tokens alone.
    pub fn inversions(&self) -> impl Iterator<Item = (usize, &Embedding)> {
        self.inversions.iter().map(|(at, embedding)| (*at, &**embedding))
    }

    /// What a text encoder of this name and width is given.
    ///
    /// # Errors
    /// [`Error::EmbeddingWidth`] where a textual inversion has no vectors for it.
    pub fn tokens(
        &self,
        filling: Filling,
        encoder: &'static str,
        width: usize,
        device: &Device,
    ) -> Result<Tokens, Error> {
        let vectors =
            self.inversions.iter().map(|(at, embedding)| Ok((*at, embedding.vectors(encoder, width, device)?)));
        Ok(Tokens { ids: self.ids(filling), vectors: vectors.collect::<Result<_, Error>>()? })
    }
}

/// What encoders made of chunks, `[chunks, tokens, width]`, one chunk behind the other, `[1, chunks · tokens, width]`.
pub fn joined(states: Tensor<3>) -> Tensor<3> {
    let [chunks, tokens, width] = states.dims();
    states.reshape([1, chunks * tokens, width])
}

/// A prompt that is being cut.
struct Cutting {
    text: usize,
    chunks: Vec<Chunk>,
    open: Open,
    last_comma: Option<usize>,
}

/// The chunk that is being filled, without its marks.
#[derive(Default)]
struct Open {
    ids: Vec<usize>,
    weights: Vec<f32>,
    inversions: Vec<(usize, Arc<Embedding>)>,
}

impl Cutting {
    fn words(&mut self, ids: &[usize], weight: f32, embeddings: &Embeddings) -> Result<(), Error> {
        let mut at = 0;
        while let Some(&id) = ids.get(at) {
            self.make_room(id);
            at += match embeddings.at(&ids[at..]) {
                Some((embedding, tokens)) => {
                    self.place(embedding, weight)?;
                    tokens
                }
                None => {
                    self.push(id, weight);
                    1
                }
            };
        }
        Ok(())
    }

    fn inversion(&mut self, embedding: &Arc<Embedding>, weight: f32) -> Result<(), Error> {
        self.make_room(0);
        self.place(embedding, weight)
    }

    /// Closes a chunk that is full before token `id`: behind its last comma where that is near.
    fn make_room(&mut self, id: usize) {
        let full = self.open.ids.len() == self.text;
        if id == ClipTokenizer::COMMA {
            self.last_comma = Some(self.open.ids.len());
        } else if full && let Some(comma) = self.last_comma.filter(|comma| self.text - comma <= BACKTRACK) {
            let (ids, weights) = (self.open.ids.split_off(comma + 1), self.open.weights.split_off(comma + 1));
            self.close();
            self.open = Open { ids, weights, ..Open::default() };
        }
        if self.open.ids.len() == self.text {
            self.close();
        }
    }

    fn place(&mut self, embedding: &Arc<Embedding>, weight: f32) -> Result<(), Error> {
        let count = embedding.count();
        if count > self.text {
            return Err(Error::EmbeddingLength { name: embedding.name().to_owned(), count, limit: self.text });
        }
        if self.open.ids.len() + count > self.text {
            self.close();
        }
        // Counted with the start mark.
        self.open.inversions.push((self.open.ids.len() + 1, embedding.clone()));
        (0..count).for_each(|_| self.push(0, weight));
        Ok(())
    }

    fn push(&mut self, id: usize, weight: f32) {
        self.open.ids.push(id);
        self.open.weights.push(weight);
    }

    fn close(&mut self) {
        let Open { ids, weights, inversions } = mem::take(&mut self.open);
        let filled = |mark, values: Vec<usize>| {
            let mut all: Vec<usize> = [mark].into_iter().chain(values).collect();
            all.resize(self.text + 2, ClipTokenizer::END);
            all
        };
        let mut weights: Vec<f32> = [1.0].into_iter().chain(weights).collect();
        weights.resize(self.text + 2, 1.0);
        self.chunks.push(Chunk { ids: filled(ClipTokenizer::START, ids), weights, inversions });
        self.last_comma = None;
    }

    fn chunks(mut self) -> Vec<Chunk> {
        if !self.open.ids.is_empty() || self.chunks.is_empty() {
            self.close();
        }
        self.chunks
    }
}
