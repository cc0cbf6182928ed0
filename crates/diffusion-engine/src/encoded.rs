use core_tensor::Tensor;

/// An encoded prompt, as the networks see it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// One vector for each token, of each encoder whose tokens are attended to.
    pub streams: Vec<Stream>,
    /// One vector for the whole prompt, `[1, width]`, where the family has one.
    pub pooled: Option<Tensor<2>>,
    /// The token ids that each encoder was given, under the encoder's name.
    pub ids: Vec<(&'static str, Vec<usize>)>,
    /// The encoders that did not see the whole prompt.
    pub cut: Vec<Cut>,
}

/// A prompt's tokens, by one encoder.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The encoder's name.
    pub encoder: &'static str,
    /// `[1, tokens, width]`.
    pub tokens: Tensor<3>,
}

/// A prompt that was longer than an encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// The encoder's name.
    pub encoder: &'static str,
    /// Tokens that the encoder was given.
    pub kept: usize,
    /// Tokens that the prompt has.
    pub tokens: usize,
}
