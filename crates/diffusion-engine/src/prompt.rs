//! The prompt language of Stable Diffusion's interfaces.

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
