use std::sync::Arc;

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

/// The first prompts of a list, which are drawn at once, with as many tokens each: what a shorter one lacks is its last token's vector.
///
/// As A1111 and Forge have it: modules/prompt_parser.py `stack_conds`.
pub(crate) fn of_one_length(mut prompts: Vec<Arc<Encoded>>, at_once: usize) -> Vec<Arc<Encoded>> {
    let lengths = |encoded: &Encoded| encoded.streams.iter().map(|stream| stream.tokens.dims()[1]).collect::<Vec<_>>();
    let at_once = &mut prompts[..at_once];
    let Some(first) = at_once.first() else { return prompts };
    let longest = at_once.iter().fold(lengths(first), |longest, encoded| {
        longest.into_iter().zip(lengths(encoded)).map(|(a, b)| a.max(b)).collect()
    });
    for encoded in at_once {
        if lengths(encoded) != longest {
            let streams = Arc::make_mut(encoded).streams.iter_mut();
            streams.zip(&longest).for_each(|(stream, &length)| stream.lengthen(length));
        }
    }
    prompts
}

impl Stream {
    /// Repeats the last token's vector so that there are so many.
    fn lengthen(&mut self, length: usize) {
        let [_, tokens, width] = self.tokens.dims();
        if tokens > 0 && tokens < length {
            let last = self.tokens.clone().narrow(1, tokens - 1, 1).expand([1, length - tokens, width]);
            self.tokens = Tensor::cat(vec![self.tokens.clone(), last], 1);
        }
    }
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
