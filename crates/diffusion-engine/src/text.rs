//! Text encoders that several families share, and their tokenizers.

mod chunks;
mod clip;
mod clip_dimensions;
mod clip_tokenizer;
mod embedding;
mod embeddings;
mod emphasis;
mod held;
mod llama_names;
mod open_clip_names;
mod t5;
mod t5_tokenizer;

pub use chunks::{Chunk, Filling, chunked, joined};
pub use clip::{Clip, Tokens};
pub use clip_dimensions::{Activation, ClipConfig, ClipDimensions, ClipProjection};
pub use clip_tokenizer::ClipTokenizer;
pub use embedding::Embedding;
pub use embeddings::{Embeddings, LentEmbeddings};
pub use emphasis::{Row, weighted, weighted_together};
pub use held::{PANEL_ROWS, filled_heads, tokenizing_bytes};
pub use llama_names::LlamaNames;
pub use open_clip_names::OpenClipNames;
pub use t5::{T5, T5Dimensions};
pub use t5_tokenizer::T5Tokenizer;
