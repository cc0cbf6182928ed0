//! Text encoders that several families share, and their tokenizers.

mod clip;
mod clip_tokenizer;
mod t5;
mod t5_tokenizer;

pub use clip::{Clip, ClipConfig, ClipDimensions};
pub use clip_tokenizer::ClipTokenizer;
pub use t5::{T5, T5Dimensions};
pub use t5_tokenizer::T5Tokenizer;
