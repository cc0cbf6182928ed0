mod decode_fault;
mod gguf_fault;

use std::path::PathBuf;

pub use self::{decode_fault::DecodeFault, gguf_fault::GgufFault};

/// What can be wrong with a quantised file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read, or is of a kind that [`core_tensor`] reads and has something against.
    #[error(transparent)]
    Tensor(#[from] core_tensor::Error),
    /// A GGUF file that contradicts the format or itself.
    #[error("`{}`, byte {at}: {fault}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where in the file it was found.
        at: u64,
        /// What is wrong.
        fault: Box<GgufFault>,
    },
    /// A quantised tensor that contradicts what belongs to it.
    #[error("tensor `{tensor}` of {source_name} can't be read: {fault}")]
    Decode {
        /// The tensor.
        tensor: String,
        /// Where it lies.
        source_name: String,
        /// What is wrong.
        #[source]
        fault: Box<DecodeFault>,
    },
}
