use std::{fmt, io, path::PathBuf};

use core_tensor::Error as WeightError;

use crate::{HookError, PromptFault, Site, TextFault, Unwritable, Which, Writer};

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
    /// A picture to start from, or a mask, that this request can't use.
    #[error("{what} is {found}, expected {expected}")]
    Picture {
        /// What of it.
        what: &'static str,
        /// What is possible.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A hook that asks the model that it is called by.
    #[error("a hook asks the model that it is called by")]
    Asked,
    /// A prompt that can't be drawn.
    #[error("the {}prompt can't be drawn", if *negative { "negative " } else { "" })]
    Prompt {
        /// Whether it is the negative one.
        negative: bool,
        /// Why.
        source: PromptFault,
    },
    /// `BREAK` in a prompt for a model whose text encoders have no chunks.
    #[error("`BREAK` begins a new chunk of tokens, and {model} takes a prompt as one")]
    NoChunks {
        /// The model's family.
        model: &'static str,
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
    /// A model that a run goes on with can't be loaded.
    #[error("{which} can't be loaded")]
    Bring {
        /// Which of the job's.
        which: Which,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network between two passes can't be loaded.
    #[error("the upscaler can't be loaded")]
    BringUpscaler {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A network was told to stop.
    #[error("cancelled")]
    Cancelled,
    /// The run was told to stop.
    #[error("interrupted after step {step} of {steps}, its pictures were not written")]
    Stopped {
        /// Steps done.
        step: usize,
        /// How many there are.
        steps: usize,
    },
    /// A hook failed.
    #[error("a hook failed at `{site}` of the {}", site.network)]
    Hook {
        /// Where it was called.
        site: Site,
        /// Why.
        source: HookError,
    },
    /// A snapshot was asked of a run whose last step did not end.
    #[error("step {step} did not end, there is no state to go on from")]
    Unsettled {
        /// The step.
        step: usize,
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
    /// Pictures for an autoencoder that only decodes.
    #[error("the autoencoder has no encoder, which pictures to start from need")]
    NoEncoder,
    /// A text encoder's projection, of one that was loaded without.
    #[error("the text encoder was loaded without its projection")]
    NoProjection,
    /// A file in the place of a textual inversion that is something else, or several.
    #[error("{source_name} is not one textual inversion: `{name}` can't be used")]
    NotAnEmbedding {
        /// What prompts would call it.
        name: String,
        /// Which file.
        source_name: String,
    },
    /// A tensor of a textual inversion that is no list of vectors, or has another number of them than the other.
    #[error(
        "`{tensor}` of the textual inversion `{name}` has shape {shape:?}, expected [vectors, width], as many for each encoder"
    )]
    EmbeddingShape {
        /// What prompts call it.
        name: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor of a textual inversion with a value that is not a number.
    #[error("`{tensor}` of the textual inversion `{name}` holds a value that is not a number")]
    EmbeddingValues {
        /// What prompts call it.
        name: String,
        /// The tensor.
        tensor: String,
    },
    /// A textual inversion of another model.
    #[error(
        "the textual inversion `{name}` has vectors of {found:?} numbers, the text encoder `{encoder}` needs {expected}"
    )]
    EmbeddingWidth {
        /// What the prompt calls it.
        name: String,
        /// The encoder that it was to be used with.
        encoder: &'static str,
        /// The encoder's width.
        expected: usize,
        /// The widths of its vectors.
        found: Vec<usize>,
    },
    /// A textual inversion that no chunk of tokens can hold.
    #[error("the textual inversion `{name}` has {count} vectors, a prompt's chunk holds {limit}")]
    EmbeddingLength {
        /// What the prompt calls it.
        name: String,
        /// Its vectors.
        count: usize,
        /// The most.
        limit: usize,
    },
    /// A textual inversion that a prompt names and that is not there.
    #[error("there is no textual inversion `{name}`")]
    NoEmbedding {
        /// What the prompt calls it.
        name: String,
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
        source: io::Error,
    },
    /// A file that is no picture.
    #[error("cannot read `{}`: it is not a PNG, JPEG or WebP picture", path.display())]
    NotAPicture {
        /// The file.
        path: PathBuf,
    },
    /// A picture or video of a format whose text is not read.
    #[error("cannot read `{}`: it is {format}, and texts are read from PNG, JPEG and WebP", path.display())]
    PictureFormat {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        format: &'static str,
    },
    /// A picture that is damaged where its text should be.
    #[error("cannot read `{}`: {what} at byte {at}, and there is no text before it", path.display())]
    DamagedPicture {
        /// The picture.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A picture whose pixels do not decode.
    #[error("cannot decode the pixels of `{}`", path.display())]
    Pixels {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A picture that there is no room for while it is read.
    #[error("reading `{}` takes {needed} bytes of memory, {room} are left", path.display())]
    PictureMemory {
        /// The picture.
        path: PathBuf,
        /// Bytes that would do for it.
        needed: u64,
        /// What there is.
        room: u64,
    },
    /// A picture's text that is longer than any program writes.
    #[error("cannot read `{}`: its text is longer than {} KiB", path.display(), max >> 10)]
    TextTooLong {
        /// The picture.
        path: PathBuf,
        /// The most that is read, in bytes.
        max: usize,
    },
    /// A picture's text in an encoding that is not read.
    #[error("cannot read `{}`: its text is in {charset}", path.display())]
    TextCharset {
        /// The picture.
        path: PathBuf,
        /// The encoding.
        charset: &'static str,
    },
    /// A picture without the text that says how it was made.
    #[error("`{}` has no `parameters` text, and none of another program", path.display())]
    NoInfotext {
        /// The picture.
        path: PathBuf,
    },
    /// A value of an infotext that makes no sense.
    #[error("`{key}` of {text} is {found}, expected {expected}")]
    Infotext {
        /// Whose text it is.
        text: Writer,
        /// The key, as it stands there.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Two keys of an infotext that mean the same and say different things.
    #[error("{text} contradicts itself: `{}` is {} and `{}` is {}", first.0, first.1, second.0, second.1)]
    Contradiction {
        /// Whose text it is.
        text: Writer,
        /// A key and its value.
        first: (String, String),
        /// The other key and its value.
        second: (String, String),
    },
    /// An infotext that says `random` instead of the seed.
    #[error("{text} has -1, which means random, for its seed: the one that was drawn is not told")]
    RandomSeed {
        /// Whose text it is.
        text: Writer,
    },
    /// A text of another program that can't be read.
    #[error("{text} can't be read: {fault}")]
    InfotextForm {
        /// Whose text it is.
        text: Writer,
        /// Why.
        fault: TextFault,
    },
    /// A text encoder's file that brings a vocabulary, which is another than its family's.
    #[error(
        "piece {id} of the file's vocabulary is {}, T5's is `{expected}`",
        found.as_ref().map_or_else(|| "missing".to_owned(), |found| format!("`{found}`"))
    )]
    OtherPiece {
        /// Its number.
        id: u32,
        /// What it is in the vocabulary that prompts are read with.
        expected: String,
        /// What the file has, cut.
        found: Option<String>,
    },
    /// A text of another program that asks for something unknown.
    #[error("{text}: {error}")]
    Foreign {
        /// Whose text it is.
        text: Writer,
        /// What it asks for.
        error: Box<Error>,
    },
    /// A model without a part that it can't do without.
    #[error("the model has no part `{key}`")]
    NoPart {
        /// The part's key.
        key: String,
    },
    /// A part of a model that can't be used.
    #[error("cannot load the model's part `{key}`")]
    InPart {
        /// The part's key.
        key: String,
        /// Why.
        source: Box<Error>,
    },
    /// A part's `config.json` with a value of another type than its key's.
    #[error("the `config.json` can't be used")]
    Settings {
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// What a device says that could not compute, where it is its fault: in whichever call that came to light.
    pub fn of_device(&self) -> Option<&WeightError> {
        match self {
            Self::Weights(error) if error.is_of_device() => Some(error),
            Self::Step { source: samplers::Error::Model { source, .. }, .. } => {
                let own = source.downcast_ref::<WeightError>().filter(|error| error.is_of_device());
                own.or_else(|| source.downcast_ref::<Self>()?.of_device())
            }
            Self::InPart { source, .. } => source.of_device(),
            _ => None,
        }
    }
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
    /// The latent that a pass starts from: that of a picture, or of the pass before.
    Start,
    /// The latent after a step, from 1.
    Step(usize),
    /// The decoded picture.
    Image,
    /// A look at a picture in the making.
    Preview,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Stage::Prompt => f.write_str("the encoded prompt"),
            Stage::NegativePrompt => f.write_str("the encoded negative prompt"),
            Stage::Noise => f.write_str("the starting noise"),
            Stage::Start => f.write_str("the latent that the pass starts from"),
            Stage::Step(step) => write!(f, "the latent after step {step}"),
            Stage::Image => f.write_str("the decoded picture"),
            Stage::Preview => f.write_str("the preview"),
        }
    }
}
