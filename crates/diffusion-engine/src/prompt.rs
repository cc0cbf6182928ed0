//! The prompt language of Stable Diffusion's interfaces.

use samplers::{Options, Value};

/// A prompt, and all that is said about its encoding: what encoded prompts are kept by.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its words, and where chunks of tokens begin.
    pub pieces: Vec<Piece>,
    /// The family's own settings.
    pub settings: Options,
}

/// The setting of a prompt that is not wanted.
const NEGATIVE: &str = "negative";

impl Prompt {
    /// The same as one that is not wanted, which some models encode in another way.
    #[must_use]
    pub fn negative(mut self) -> Self {
        self.settings.set(NEGATIVE, Value::Number(1.0));
        self
    }

    /// Whether it is one that is not wanted.
    pub fn is_negative(&self) -> bool {
        self.settings.value(NEGATIVE).is_some()
    }

    /// The words of all pieces, without their weights; a space stands for each [`Piece::Break`].
    pub fn text(&self) -> String {
        let words = |piece: &Piece| match piece {
            Piece::Words { text, .. } => text.clone(),
            Piece::Break => " ".to_owned(),
        };
        self.pieces.iter().map(words).collect()
    }
}

/// A stretch of a prompt between the marks of its language.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words that are drawn alike.
    Words {
        /// The words, without marks and escapes, their spaces kept.
        text: String,
        /// How much they count: 1 where nothing is said, 1.1 for `(words)`, 1.3 for `(words:1.3)`.
        weight: f32,
    },
    /// `BREAK`: what follows begins a new chunk of tokens.
    Break,
}

impl Piece {
    /// Words that count as they are.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Words { text: text.into(), weight: 1.0 }
    }
}

/// How the weights of words change what a text encoder makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Each token's vector is multiplied by its weight, and then all of a chunk by what brings back their mean.
    #[default]
    Original,
    /// Each token's vector is multiplied by its weight.
    NoNorm,
    /// The marks are read and the weights left out.
    Ignore,
    /// The marks are words like all others.
    None,
}
