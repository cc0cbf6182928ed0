use std::{fmt, io, path::PathBuf};

use core_tensor::Error as WeightError;

use crate::Unwritable;

/// What can go wrong between a request and its picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A part of the request that this model can't do.
    #[error("{what} is {found}, expected {expected}")]
    Request {
        /// The part, by its name in the config.
        what: &'static str,
        /// What is possible.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// A sampler, a schedule or their names.
    #[error(transparent)]
    Sampling(#[from] samplers::Error),
    /// A step failed.
    #[error("step {step} of {steps} failed")]
    Step {
        /// From 1.
        step: usize,
        /// How many there are.
        steps: usize,
        /// Why.
        source: samplers::Error,
    },
    /// NaN or infinity came out of a stage; no picture is made from it.
    #[error("{stage} holds a value that is not a number")]
    NotFinite {
        /// Where.
        stage: Stage,
    },
    /// A model file does not fit.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A part of a model that contradicts itself or another part, or is beyond what this engine can do.
    #[error("{what} is {found}, expected {expected}")]
    Model {
        /// The part.
        what: &'static str,
        /// What is possible.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A property of a model that its tensors don't tell.
    #[error("{source_name}: {what} can't be told from the tensors")]
    Untold {
        /// Which file.
        source_name: String,
        /// Which property.
        what: &'static str,
    },
    /// The text could not be turned into tokens.
    #[error("the {which} tokenizer failed")]
    Tokenizer {
        /// CLIP or T5.
        which: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A picture was asked of a run that has steps left.
    #[error("the run is at step {step} of {steps}, it has no picture yet")]
    Unfinished {
        /// Steps done.
        step: usize,
        /// How many there are.
        steps: usize,
    },
    /// A file could not be written; nothing is left under its name.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: Unwritable,
    },
    /// A file is there, but the system failed to make its name last.
    #[error("`{}` is written, but could be lost with the next power failure: its folder can't be synced", path.display())]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A picture could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: png::DecodingError,
    },
    /// A picture without the text that says how it was made.
    #[error("`{}` has no `parameters` text", path.display())]
    NoInfotext {
        /// The picture.
        path: PathBuf,
    },
    /// Infotext that is not what this engine or A1111 writes.
    #[error("the infotext's `{key}` is {found}, expected {expected}")]
    Infotext {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

/// A place in the story whose values are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The encoded positive prompt.
    Prompt,
    /// The encoded negative prompt.
    NegativePrompt,
    /// The noise that a run starts from.
    Noise,
    /// The latent after a step, from 1.
    Step(usize),
    /// The decoded picture.
    Image,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Stage::Prompt => f.write_str("the encoded prompt"),
            Stage::NegativePrompt => f.write_str("the encoded negative prompt"),
            Stage::Noise => f.write_str("the starting noise"),
            Stage::Step(step) => write!(f, "the latent after step {step}"),
            Stage::Image => f.write_str("the decoded picture"),
        }
    }
}
