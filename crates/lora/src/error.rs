use std::{fmt, path::PathBuf};

use crate::{PatternFault, Report};

/// Where a PEFT config stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigPlace {
    /// In the metadata of a LoRA file, which messages call so.
    Metadata(String),
    /// In a file of its own, `adapter_config.json`.
    File(PathBuf),
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Metadata(label) => write!(f, "the PEFT config in the metadata of {label}"),
            Self::File(path) => write!(f, "the PEFT config `{}`", path.display()),
        }
    }
}

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
    /// An adapter of PEFT's by a method that is not read.
    #[error("{label} holds PEFT's {method} (`{tensor}`), which is not read: expected LoRA, DoRA, LoHa or LoKr")]
    NotRead {
        /// The file.
        label: String,
        /// The method.
        method: &'static str,
        /// A tensor that tells it.
        tensor: String,
    },
    /// A PEFT config, beside a file or in its metadata, that can't be read.
    #[error("{config} can't be read")]
    Config {
        /// Which config.
        config: ConfigPlace,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A PEFT config of a method that is not read.
    #[error("{config} is of a method that is not read: expected the `peft_type` LORA, LOHA or LOKR, found `{method}`")]
    OtherMethod {
        /// Which config.
        config: ConfigPlace,
        /// Its `peft_type`, or the beginning of it.
        method: String,
    },
    /// A pattern of a PEFT config that can't be matched as PEFT does.
    #[error("`{key}` of {config}: `{pattern}`: {fault}")]
    Pattern {
        /// Which config.
        config: ConfigPlace,
        /// The key of the config.
        key: &'static str,
        /// The pattern, or its beginning.
        pattern: String,
        /// What is wrong with it.
        fault: PatternFault,
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
