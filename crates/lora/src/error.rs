use crate::Report;

/// What can be wrong with a LoRA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file without a single tensor of an adapter.
    #[error("{label} has no tensor of a LoRA")]
    NotALora {
        /// The file.
        label: String,
    },
    /// More modules than any model has.
    #[error("{label} has more than {most} modules")]
    TooMany {
        /// The file.
        label: String,
        /// The limit.
        most: usize,
    },
    /// Nothing of a file fits a model: it was made for another one.
    #[error("{report}")]
    NothingFits {
        /// What was looked for.
        report: Box<Report>,
    },
    /// Some of a file does not fit a model.
    #[error("{report}")]
    Partial {
        /// What was found and what was not.
        report: Box<Report>,
    },
    /// A tensor that could not be read.
    #[error(transparent)]
    Tensor(#[from] core_tensor::Error),
    /// Vectors of words that are none.
    #[error("{label} brings vectors of words that can't be used")]
    Words {
        /// The file.
        label: String,
        /// Why.
        source: Box<diffusion_engine::Error>,
    },
    /// Weights of blocks that can't be read.
    #[error("block weights `{given}`: expected {expected}")]
    Blocks {
        /// What was given.
        given: String,
        /// What would do.
        expected: String,
    },
}
