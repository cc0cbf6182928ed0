use std::{io, path::PathBuf};

use diffusion_engine::Unwritable;

use crate::{NotAPath, TextError};

/// What the library returns.
pub type Result<T> = std::result::Result<T, Error>;

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
    /// A prompt's file could not be read.
    #[error("cannot read the prompt `{}`", path.display())]
    ReadPrompt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextError,
    },
    /// Something else where a path belongs.
    #[error("`{key}` is `{}`, which is {what}; expected the path of a file or folder", path.display())]
    NotAPath {
        /// The key or flag.
        key: &'static str,
        /// What is written there.
        path: PathBuf,
        /// What it is.
        what: NotAPath,
    },
    /// A format that pictures are not written in.
    #[error("`image.output` is `{}`, expected a name that ends in `.png`: {format} is not written yet", path.display())]
    Format {
        /// The picture.
        path: PathBuf,
        /// Its format.
        format: &'static str,
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
    /// Standard input in the place of several files.
    #[error("standard input can be read once, and {flags} ask for it")]
    StandardInputTwice {
        /// The flags that name it.
        flags: String,
    },
    /// Several pictures for standard output.
    #[error("standard output takes one picture, and `image.batch` is {batch}")]
    SeveralPictures {
        /// How many were asked for.
        batch: usize,
    },
    /// A picture for standard output while something else uses it.
    #[error("a picture can't be written to standard output {user}")]
    StandardOutputTaken {
        /// Who has it.
        user: &'static str,
    },
    /// More threads than a config may ask for.
    #[error("`device.threads` is {found}, expected 0 to {max}")]
    Threads {
        /// What was asked for.
        found: usize,
        /// What is possible.
        max: usize,
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
        key: &'static str,
        /// What is possible.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A model is described incompletely.
    #[error("the config names no `model.{key}`")]
    NoModel {
        /// The missing key.
        key: &'static str,
    },
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
        expected: &'static str,
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
    /// A mistake in this program.
    #[error("this is a bug in forge: {message} ({place})")]
    Bug {
        /// What the program says.
        message: String,
        /// Where in its source.
        place: String,
    },
    /// Ctrl-C.
    #[error("interrupted after step {step} of {steps}, nothing was written")]
    Interrupted {
        /// Steps done.
        step: usize,
        /// How many there are.
        steps: usize,
    },
    /// A size in bytes, or a model that is larger than it.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// A model file or a device.
    #[error(transparent)]
    Weights(#[from] core_tensor::Error),
    /// A name of the registry.
    #[error(transparent)]
    Registry(#[from] samplers::Error),
    /// The run.
    #[error(transparent)]
    Run(#[from] diffusion_engine::Error),
    /// A file that is no file of tensors at all.
    #[error("this is {}{}, expected a safetensors file", found.name(), quoted(line.as_deref()))]
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
    #[error("{} {}", of_them(*tensors, model), scheme.complaint())]
    Quantised {
        /// Which model, with its article.
        model: &'static str,
        /// How.
        scheme: quant::Scheme,
        /// How many of its tensors.
        tensors: usize,
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
        key: &'static str,
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
        key: &'static str,
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

fn of_them(tensors: usize, model: &str) -> String {
    if tensors == 1 { format!("1 tensor of {model} is") } else { format!("{tensors} tensors of {model} are") }
}

fn quoted(line: Option<&str>) -> String {
    line.filter(|line| !line.is_empty()).map_or_else(String::new, |line| format!(" that begins `{line}`"))
}

impl Error {
    /// The exit code of the command: 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected,
    /// 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        use diffusion_engine::Error as Run;
        match self {
            Self::ReadConfig { .. } | Self::ReadPrompt { .. } | Self::ParseConfig { .. } => 2,
            Self::Value { .. } | Self::NoModel { .. } | Self::NotAPath { .. } | Self::Format { .. } => 2,
            Self::Overwrites { .. } | Self::JoinsModel { .. } | Self::Threads { .. } => 2,
            Self::StandardInputTwice { .. } | Self::SeveralPictures { .. } | Self::StandardOutputTaken { .. } => 2,
            Self::Registry(_) | Self::Memory(memory::Error::NotBytes { .. }) => 2,
            Self::Memory(_) => 3,
            Self::Load { source, .. } => match source.exit_code() {
                3 => 3,
                _ => 4,
            },
            Self::Weights(core_tensor::Error::UnknownDevice { .. } | core_tensor::Error::MissingBackend { .. }) => 2,
            Self::Weights(core_tensor::Error::Device { .. }) => 1,
            Self::WrongFile { .. } | Self::ModelConfig { .. } | Self::Weights(_) => 4,
            Self::Run(Run::Request { .. } | Run::Sampling(_)) => 2,
            Self::Run(Run::Weights(_) | Run::Model { .. } | Run::Untold { .. }) => 4,
            Self::Interrupted { .. } => 130,
            Self::Read { .. } | Self::Write { .. } | Self::Bug { .. } | Self::Run(_) => 1,
            Self::NotAModel { .. } | Self::NotRegular { .. } | Self::Unfinished { .. } | Self::TooLong { .. } => 4,
            Self::Quantised { .. } | Self::Index { .. } | Self::NotThere { .. } | Self::NotInItsFile { .. } => 4,
            Self::ShardMissing { .. } | Self::SeveralSplits { .. } | Self::InTwoFiles { .. } => 4,
            Self::OneNameForTwo { .. } | Self::TooManyFiles { .. } | Self::Contradiction { .. } => 4,
            Self::NotAnObject { .. } | Self::Unsupported { .. } | Self::OtherClass { .. } => 4,
        }
    }
}

/// What to do about an error, as an action, where something helps.
pub fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Registry(e) | Error::Run(diffusion_engine::Error::Sampling(e)) => registry_hint(e),
        Error::Load { source, .. } => match source.as_ref() {
            Error::Weights(core_tensor::Error::Missing { .. } | core_tensor::Error::Shape { .. })
            | Error::Run(diffusion_engine::Error::Weights(_))
            | Error::WrongFile { .. } => Some("`forge inspect` lists what each file contains".into()),
            Error::Run(diffusion_engine::Error::Untold { .. }) => {
                Some("put the model's `config.json` beside the file".into())
            }
            Error::Load { .. } | Error::NotAModel { .. } => hint(source),
            Error::NotThere { .. } | Error::ShardMissing { .. } | Error::Unfinished { .. } => {
                Some("download the folder again, or what is missing of it".into())
            }
            Error::SeveralSplits { .. } => Some("move all but one out of the folder".into()),
            _ => None,
        },
        Error::NotAModel { found, .. } => container_hint(*found),
        Error::Weights(core_tensor::Error::MissingBackend { backend }) => {
            Some(format!("build with `--features {backend}`, or use `backend = \"cpu\"`"))
        }
        Error::Weights(core_tensor::Error::Device { .. }) => {
            Some("look whether the card's driver and its libraries are installed, or use `backend = \"cpu\"`".into())
        }
        Error::NoModel { .. } => Some("name the file in the config, or give its flag".into()),
        Error::Memory(memory::Error::TooLittle { needed, .. }) => Some(format!("set `memory = \"{needed}\"` or more")),
        Error::ReadConfig { source: TextError::Folder, .. } => Some("give the config file, not its folder".into()),
        Error::NotAPath { what, .. } => not_a_path_hint(*what).map(str::to_owned),
        Error::Overwrites { .. } | Error::JoinsModel { .. } => Some("give the output another name".into()),
        Error::SeveralPictures { .. } => Some("set `batch = 1`, or name a file with `{index}` in it".into()),
        Error::Bug { .. } => Some("please report it, with the command and what it was given".into()),
        Error::ParseConfig { source, .. } => unknown_key_hint(source.message()),
        _ => None,
    }
}

fn not_a_path_hint(what: NotAPath) -> Option<&'static str> {
    match what {
        NotAPath::Address => Some("give the path of a file or folder on this machine"),
        NotAPath::HubId => Some("download the model, and give the path of its folder or file"),
        NotAPath::Variable => Some("write the path out; `~` is the home folder"),
        NotAPath::OfWindows => Some("write it as this system has it"),
        NotAPath::HomeOfAnother | NotAPath::NoHome => Some("write the path out"),
        NotAPath::Empty => None,
    }
}

/// The other name of a file, where it is another one.
fn as_spelt(path: &std::path::Path, of: &std::path::Path) -> String {
    if path == of { String::new() } else { format!(" (`{}`)", of.display()) }
}

/// What to do about a file that is something else.
fn container_hint(found: quant::Container) -> Option<String> {
    use quant::Container as Is;
    let action = match found {
        Is::LfsPointer => "`git lfs pull` in the file's repository fetches it",
        Is::Index => "give the folder that it lies in",
        Is::Html | Is::Xml | Is::Json | Is::Text => {
            "an answer came in the file's place; download it again, logged in if it asks"
        }
        Is::Zeros | Is::Empty => "download the file again",
        Is::AppleDouble => "the real file has the same name without `._`",
        Is::Gzip | Is::Zstd | Is::Xz | Is::Bzip2 | Is::Lz4 | Is::SevenZip | Is::Rar | Is::Tar | Is::Zip => "unpack it",
        Is::TorchZip | Is::Pickle => "look for the model's safetensors file, or convert it",
        Is::Safetensors | Is::Gguf | Is::Ggml | Is::Onnx | Is::TfLite | Is::Hdf5 | Is::NumPy => return None,
        Is::Picture | Is::Pdf | Is::Program | Is::Sqlite | Is::Parquet | Is::Unknown => return None,
    };
    Some(action.into())
}

fn registry_hint(error: &samplers::Error) -> Option<String> {
    let (kind, name, known) = match error {
        samplers::Error::UnknownName { kind, name, known } => (kind, name, known),
        samplers::Error::UnsuitedSampler { instead, .. } => return Some(format!("`{instead}` suits this model")),
        samplers::Error::Unsuited { instead, .. } => return Some(format!("`{instead}` suits every model")),
        _ => return None,
    };
    let near = nearest(name, known.iter().copied());
    let list = match *kind {
        "sampler" => "; `forge samplers` lists all".to_owned(),
        "schedule" => "; `forge schedules` lists all".to_owned(),
        "option" if known.is_empty() => "; the sampler and the schedule have none".to_owned(),
        _ => format!("; there are {}", known.join(", ")),
    };
    match near {
        Some(near) => Some(format!("did you mean `{near}`?{}", list.replacen("; ", " ", 1))),
        None => Some(list.trim_start_matches("; ").to_owned()),
    }
}

/// serde's own message lists the keys that exist; the nearest of them is the likely one.
fn unknown_key_hint(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found =
        quoted.next().filter(|_| message.starts_with("unknown field") || message.starts_with("unknown variant"))?;
    nearest(found, quoted).map(|near| format!("did you mean `{near}`?"))
}

/// The most similar of some names, if any is similar at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .map(|k| (strsim::jaro_winkler(&name, &k.to_lowercase()), k))
        .filter(|(similarity, _)| *similarity > 0.7)
        .min_by(|a, b| b.0.total_cmp(&a.0)) // the first of equals
        .map(|(_, k)| k)
}
