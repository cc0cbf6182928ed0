use core_tensor::Error as WeightError;

/// What can be wrong with an upscaler's file, or end its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that does not fit, or can't be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// An upscaler of another kind.
    #[error(
        "{source_name} is {architecture}, by its tensor `{tensor}`: ESRGAN's, Real-ESRGAN's and compact networks and SwinIR are run"
    )]
    Architecture {
        /// Which file.
        source_name: String,
        /// What it is, with its article.
        architecture: &'static str,
        /// The tensor that tells it.
        tensor: String,
    },
    /// A file that is no upscaler.
    #[error(
        "{source_name} is no upscaler that is known{}",
        first.as_ref().map_or_else(|| ": it holds no tensors".to_owned(), |first| format!(": its first tensor is `{first}`"))
    )]
    Unknown {
        /// Which file.
        source_name: String,
        /// The first of its tensors' names, cut.
        first: Option<String>,
    },
    /// An upscaler of pictures that have other channels than red, green and blue.
    #[error("{source_name} makes {output} channels of {input}, expected pictures of red, green and blue on both sides")]
    Channels {
        /// Which file.
        source_name: String,
        /// Channels that it reads.
        input: usize,
        /// Channels that it writes.
        output: usize,
    },
    /// A network whose layers make no whole factor, or one that is larger than any upscaler's.
    #[error("{source_name}: {what}, expected a factor of 1 to {}", crate::network::MAX_FACTOR)]
    Factor {
        /// Which file.
        source_name: String,
        /// What its layers say.
        what: String,
    },
    /// A transformer whose windows or heads don't come out even.
    #[error("{source_name}: {what}, expected heads that share its channels and a table of an odd square of distances")]
    Windows {
        /// Which file.
        source_name: String,
        /// What its tensors say.
        what: String,
    },
}
