use std::{io, path::PathBuf, sync::Arc};

use diffusion_engine::{PictureFormat, PromptFault, Unwritable};
use memory::Bytes;

use crate::{Ceiling, TextError, convert_fault::ConvertFault, not_a_path::NotAPath};

/// What the library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error and its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What can go wrong between a config file and a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file could not be read.
    #[error("cannot read config `{}`", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextError,
    },
    /// A LoRA that brings vectors of words for a model that takes none.
    #[error("it brings vectors of {} for prompts, and {model} takes no textual inversions", words.join(", "))]
    LoraWords {
        /// The model.
        model: String,
        /// The words.
        words: Vec<String>,
    },
    /// A LoRA's tag that can't be read.
    #[error("`{tag}`: expected {expected}, found `{found}`")]
    LoraTag {
        /// The tag as it is written.
        tag: String,
        /// What would do.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A LoRA that a prompt names and nobody has.
    #[error("no LoRA is called `{name}`{}", among(folder.as_deref(), known.len()))]
    NoLora {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
        /// Where they were looked for.
        folder: Option<PathBuf>,
    },
    /// A LoRA that is none, or does not fit the model.
    #[error(transparent)]
    Lora(#[from] lora::Error),
    /// Something else where a path belongs.
    #[error("`{key}` is `{}`, which is {what}; expected the path of a file or folder", path.display())]
    NotAPath {
        /// The key or flag.
        key: String,
        /// What is written there.
        path: PathBuf,
        /// What it is.
        what: NotAPath,
    },
    /// A file of words that belong to prompts, such as a wildcard's, could not be read.
    #[error("cannot read `{}`", path.display())]
    ReadWords {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextError,
    },
    /// A table of styles that is none, or has none of a name.
    #[error("cannot use the styles of `{}`", path.display())]
    Styles {
        /// The table.
        path: PathBuf,
        /// Why.
        source: PromptFault,
    },
    /// A format that pictures are not written in.
    #[error("`image.output` is `{}`, expected a name that ends in {}: {format} is not written", path.display(), PictureFormat::ENDINGS)]
    Format {
        /// The picture.
        path: PathBuf,
        /// Its format.
        format: &'static str,
    },
    /// A text that is longer than a JPEG has room for.
    #[error("`image.output` is a JPEG, which holds {max} bytes of text, and the text of this picture has {bytes}")]
    LongText {
        /// Bytes of the text, with the names that it may come to have.
        bytes: usize,
        /// The most that fit in.
        max: usize,
    },
    /// A picture that would take the place of a file that is needed, or of another output.
    #[error("`{output}` would replace `{}`, which is {what}{}", path.display(), as_spelt(path, of))]
    Overwrites {
        /// The key or flag.
        output: &'static str,
        /// The place as it is written there.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The other name of the place.
        of: PathBuf,
    },
    /// An output that would be read as part of a model from then on.
    #[error("`{output}` would put `{}` among the files of the model `{}`", path.display(), folder.display())]
    JoinsModel {
        /// The key or flag.
        output: &'static str,
        /// The place.
        path: PathBuf,
        /// The model's folder.
        folder: PathBuf,
    },
    /// Several pictures for standard output.
    #[error("standard output takes one picture, and `image.batch` is {batch}")]
    SeveralPictures {
        /// How many were asked for.
        batch: usize,
    },
    /// The config file is not what the schema allows.
    #[error("config `{}` is not valid", path.display())]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value of the config or of a flag.
    #[error("`{key}` is {found}, expected {expected}")]
    Value {
        /// The key, with its table.
        key: String,
        /// What is possible.
        expected: String,
        /// What was found.
        found: String,
    },
    /// NaN or infinity came out of a run, whose model's file holds such a value itself.
    #[error("{what}")]
    Damaged {
        /// What came of it.
        what: String,
        /// Where it is.
        source: NotANumber,
    },
    /// A model is described incompletely.
    #[error("the config names no `model.{key}`")]
    NoModel {
        /// The missing key.
        key: String,
    },
    /// A checkpoint without one of the parts that its model needs.
    #[error("this lacks {expected}, which `model.{key}` or `model.folder` can bring")]
    NotInCheckpoint {
        /// The part.
        expected: String,
        /// Its key.
        key: String,
    },
    /// A whole model's folder without that of what denoises.
    #[error(
        "cannot load `{}`: expected a folder in it called {}, as in diffusers' layout", folder.display(),
        parts.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(" or ")
    )]
    NotInFolder {
        /// The whole model's.
        folder: PathBuf,
        /// What may be there.
        parts: Vec<String>,
    },
    /// Parts that no model has together.
    #[error("{}: no model has all of them", parts.iter().map(owned).collect::<Vec<_>>().join(", "))]
    PartsOfSeveral {
        /// Each part's key, and the families whose models have one.
        parts: Vec<(String, Vec<String>)>,
    },
    /// A part that no model has.
    #[error("`model.{key}` names {found}, and no model that can be run has such a part")]
    PartOfNone {
        /// The part's key.
        key: String,
        /// What its file is.
        found: String,
    },
    /// A list of families with none in it.
    #[error("there is no family of models to open one of")]
    NoFamily,
    /// A model file was rejected.
    #[error("cannot load `{}`", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// A file that holds something else than the model needs.
    #[error("this is {found}, expected {expected}")]
    WrongFile {
        /// What belongs here.
        expected: String,
        /// What the file is.
        found: String,
    },
    /// A `config.json` beside a model could not be used.
    #[error("cannot read `{}`", path.display())]
    ModelConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written; nothing is left under its name.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Unwritable,
    },
    /// A size in bytes, or a model that is larger than it.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// A picture that there is no room for while it is read or written.
    #[error("the picture `{}` needs {needed}, {} is {}", path.display(), ceiling.from, ceiling.bytes)]
    PictureMemory {
        /// The picture.
        path: PathBuf,
        /// What would do, with all that counts against the ceiling now.
        needed: Bytes,
        /// What is allowed.
        ceiling: Ceiling,
    },
    /// A model file or a device.
    #[error(transparent)]
    Weights(#[from] core_tensor::Error),
    /// A file whose tensors are quantised.
    #[error(transparent)]
    Blocks(#[from] quant::Error),
    /// A name of the registry.
    #[error(transparent)]
    Registry(#[from] samplers::Error),
    /// A conversion that can't be done as asked.
    #[error(transparent)]
    Convert(Box<ConvertFault>),
    /// The run.
    #[error(transparent)]
    Run(#[from] diffusion_engine::Error),
    /// An upscaler's file.
    #[error(transparent)]
    Upscale(#[from] upscale::Error),
    /// A file that is no file of tensors at all.
    #[error("this is {}{}, expected a safetensors, GGUF or PyTorch file", found.name(), quoted(line.as_deref()))]
    NotAModel {
        /// What it is.
        found: quant::Container,
        /// The first line of a text, cut.
        line: Option<String>,
    },
    /// A pipe, a socket, a device or a folder in a file's place; it was not opened.
    #[error("`{}` is not a file but {found}", path.display())]
    NotRegular {
        /// Where.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },
    /// A download that its program has not finished.
    #[error("the download is not finished: `{}` is still there", control.display())]
    Unfinished {
        /// The file in which the program keeps what it has.
        control: PathBuf,
    },
    /// A small file that is too large to be what it should be.
    #[error("`{}` has {found} bytes, at most {limit} are read", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A model of a kind that can run, stored in a way that can't.
    #[error("{} {}", of_them(*tensors, model), scheme.complaint(tensor))]
    Quantised {
        /// Which model, with its article.
        model: String,
        /// How.
        scheme: quant::Scheme,
        /// How many of its tensors.
        tensors: usize,
        /// The first that tells of it, by its name or format.
        tensor: String,
    },
    /// A quantised tensor that lacks a part of what it is read by, or has an odd one.
    #[error("tensor `{tensor}` can't be read: {fault}")]
    Malformed {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        fault: Arc<quant::DecodeFault>,
    },
    /// A matrix of eight-bit floats without the scale that it must have.
    #[error("tensor `{tensor}` is of eight-bit floats and lacks its scale, which others have or the file promises")]
    Unscaled {
        /// The tensor.
        tensor: String,
    },
    /// An index of a model's files that makes no sense.
    #[error("the index `{}` can't be followed: {problem}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that an index lists and the folder lacks.
    #[error("`{file}` is missing, which `{}` lists", index.display())]
    NotThere {
        /// The file.
        file: String,
        /// The index.
        index: PathBuf,
    },
    /// A tensor that is not in the file that an index names for it.
    #[error("`{file}` has no tensor `{tensor}`, which `{}` says is in it", index.display())]
    NotInItsFile {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
        /// The index.
        index: PathBuf,
    },
    /// A file that the names of the others count.
    #[error("`{missing}` is missing: the folder has {found} of {of} files")]
    ShardMissing {
        /// The first of the missing files.
        missing: String,
        /// How many are there.
        found: usize,
        /// How many there should be.
        of: usize,
    },
    /// Files of several splits in one folder, and not one index that says which counts.
    #[error("the folder holds {} split models, of which one must count: {}", splits.len(), splits.join(", "))]
    SeveralSplits {
        /// The names of each.
        splits: Vec<String>,
    },
    /// A tensor in two of a model's files.
    #[error("tensor `{tensor}` is in two files, `{}` and `{}`", files[0], files[1])]
    InTwoFiles {
        /// The tensor.
        tensor: String,
        /// The files.
        files: [String; 2],
    },
    /// Two tensors whose names differ in the wrappers of a training alone.
    #[error("tensors `{}` and `{}` are one without their wrappers", names[0], names[1])]
    OneNameForTwo {
        /// Their names.
        names: [String; 2],
    },
    /// More files than any model is split into.
    #[error("the folder has more than {limit} model files, the most that are read")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// A model's own `config.json` says something else than its tensors.
    #[error("`{key}` is {expected} in `{}`, the tensors have {found}", path.display())]
    Contradiction {
        /// The config.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the config says.
        expected: String,
        /// What the tensors say.
        found: String,
    },
    /// What should be JSON's braces with keys in them, and is something else.
    #[error("`{}` is {found}, expected a JSON object", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        found: String,
    },
    /// A model's own `config.json` asks for what nothing here computes.
    #[error("`{key}` is {found} in `{}`, expected {expected}", path.display())]
    Unsupported {
        /// The config.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is computed.
        expected: String,
        /// What the config says.
        found: String,
    },
    /// A folder's own `config.json` or `model_index.json` is that of another kind of model.
    #[error("`{}` is of a `{class}`, expected {expected}", path.display())]
    OtherClass {
        /// The config.
        path: PathBuf,
        /// The class that it names.
        class: String,
        /// What belongs there.
        expected: String,
    },
}

/// A value in a model's file that is no number.
#[derive(Debug, thiserror::Error)]
#[error("`{tensor}` in `{}` holds NaN or infinity", path.display())]
pub struct NotANumber {
    /// The file or folder.
    pub path: PathBuf,
    /// The first tensor that has one, by its name there.
    pub tensor: String,
}

fn of_them(tensors: usize, model: &str) -> String {
    if tensors == 1 { format!("1 tensor of {model} is") } else { format!("{tensors} tensors of {model} are") }
}

/// Where LoRAs were looked for.
fn among(folder: Option<&std::path::Path>, known: usize) -> String {
    match folder {
        Some(folder) => format!(" among {known} names in `{}`", folder.display()),
        None => "; `prompt.loras` names the folder of LoRAs".to_owned(),
    }
}

/// A part, and whose it is.
fn owned((key, families): &(String, Vec<String>)) -> String {
    format!("`model.{key}` is of {}", families.join(" or "))
}

fn quoted(line: Option<&str>) -> String {
    line.filter(|line| !line.is_empty()).map_or_else(String::new, |line| format!(" that begins `{line}`"))
}

/// The other name of a file, where it is another one.
fn as_spelt(path: &std::path::Path, of: &std::path::Path) -> String {
    if path == of { String::new() } else { format!(" (`{}`)", of.display()) }
}
