//! Quantised files: their containers, their block formats, and tensors recognised by their bytes and names.
//!
//! [`Gguf`] reads llama.cpp's files, [`formats`] says how their blocks become weights, and [`encode`] makes blocks. Containers and schemes that are not read
//! are known, so that a file given as a model is named for what it is.

#![warn(missing_docs)]

mod bits;
mod container;
mod decoded;
pub mod encode;
mod error;
pub mod formats;
mod gguf;
mod header;
pub mod operators;
mod scheme;
mod tables;

pub use container::{Container, HEAD};
pub use decoded::{Decoded, FP4, Fp8, INT8, NF4};
pub use error::{DecodeFault, Error, GgufFault};
pub use gguf::{Gguf, List, Value};
pub use header::{Entry, GGUF_ALIGNMENT, GGUF_RANK, gguf_header, is_in_gguf, safetensors_header};
pub use scheme::{Quantised, Scheme};
