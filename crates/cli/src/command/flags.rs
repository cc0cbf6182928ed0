//! The flags that set keys of the config, each made from its key's entry.

use std::{ffi::OsStr, marker::PhantomData, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use diffusion_engine::Catalog;
use diffusion_engine::{Key, Kind};

use forge::keys::{keys, names, tables};

/// The order of their tables in the help; others follow.
const ORDER: [&str; 8] = ["prompt", "img2img", "inpaint", "control", "sampling", "image", "model", "device"];

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// The keys that are given, each as often as it is.
    pub given: Vec<(&'static Key, Vec<String>)>,
    /// The keys whose words are in files, and the flags that name these.
    pub files: Vec<(&'static Key, String, PathBuf)>,
}

impl Flags {
    /// What the flag of a key says, which is called by its place: `sampling.steps`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        let (_, texts) = self.given.iter().find(|(key, _)| key.path() == path)?;
        texts.last().map(String::as_str)
    }

    /// The same flags with those of another share of the keys.
    pub(super) fn with(&self, other: &Self) -> Self {
        let given = [&self.given[..], &other.given[..]].concat();
        Self { given, files: [&self.files[..], &other.files[..]].concat() }
    }

    fn take(&mut self, key: &'static Key, flag: &'static str, matches: &ArgMatches) {
        if let Some(texts) = matches.get_many::<String>(flag) {
            self.given.push((key, texts.cloned().collect()));
        }
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (key, flag) in flagged().into_iter().filter(|(key, _)| !Pictures::holds(key)) {
            self.take(key, flag, matches);
            if let Some(name) = file_flag(key)
                && let Some(path) = matches.get_one::<PathBuf>(name)
            {
                self.files.push((key, format!("--{name}"), path.clone()));
            }
        }
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let flags = flagged().into_iter().filter(|(key, _)| !Pictures::holds(key));
        flags.fold(command, |command, (key, flag)| {
            let command = command.arg(arg(key, flag));
            match file_flag(key) {
                Some(name) => command.arg(file_arg(key, flag, name)),
                None => command,
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Some of the keys that have flags.
pub(super) trait Share {
    fn holds(key: &Key) -> bool;
}

/// The flags of a share of the keys.
#[derive(Clone, Debug)]
pub(super) struct Of<S>(pub(super) Flags, PhantomData<S>);

/// With which model a picture is drawn and where it goes, and nothing of what it shows.
#[derive(Clone, Debug)]
pub(super) struct Surroundings;

/// What computes.
#[derive(Clone, Debug)]
pub(super) struct Device;

/// The picture that a run starts from, and what of it is drawn anew.
#[derive(Clone, Debug)]
pub(super) struct Pictures;

impl Share for Surroundings {
    fn holds(key: &Key) -> bool {
        const OTHERS: [&str; 9] = [
            "image.output",
            "image.quality",
            "prompt.embeddings",
            "sampling.noise",
            "hires.checkpoint",
            "refiner.checkpoint",
            "img2img.image",
            "inpaint.mask",
            "control.image",
        ];
        matches!(key.table, "model" | "device") || OTHERS.contains(&key.path().as_str())
    }
}

impl Share for Device {
    fn holds(key: &Key) -> bool {
        key.table == "device"
    }
}

impl Share for Pictures {
    fn holds(key: &Key) -> bool {
        matches!(key.table, "img2img" | "inpaint")
    }
}

impl<S: Share> FromArgMatches for Of<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self(Flags::default(), PhantomData);
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let held = flagged().into_iter().filter(|(key, _)| S::holds(key));
        held.for_each(|(key, flag)| self.0.take(key, flag, matches));
        Ok(())
    }
}

impl<S: Share> Args for Of<S> {
    fn augment_args(command: Command) -> Command {
        let held = flagged().into_iter().filter(|(key, _)| S::holds(key));
        held.fold(command, |command, (key, flag)| command.arg(arg(key, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The keys that have flags, in the order of the help.
fn flagged() -> Vec<(&'static Key, &'static str)> {
    let mut flagged: Vec<_> = keys().filter_map(|key| Some((key, key.flag?))).collect();
    flagged.sort_by_key(|(key, _)| ORDER.iter().position(|table| *table == key.table).unwrap_or(ORDER.len()));
    flagged
}

fn arg(key: &'static Key, flag: &'static str) -> Arg {
    let arg = Arg::new(flag).long(flag).help(key.about).help_heading(heading(key)).value_name(value_name(&key.kind));
    // A flag that begins with its table has that for a reason: other tables have keys of the same name.
    let is_of_table = flag.starts_with(key.table) || key.name.replace('_', "-") == flag;
    let arg = if is_of_table { arg } else { arg.alias(key.name) };
    match key.kind {
        Kind::Options => arg.value_parser(Words).allow_hyphen_values(true).action(ArgAction::Append),
        Kind::Words { .. }
        | Kind::Names
        | Kind::Places
        | Kind::File
        | Kind::Folder
        | Kind::Output
        | Kind::Choice(_)
        | Kind::Backend
        | Kind::Noise
        | Kind::Upscaler => arg.value_parser(Words).allow_hyphen_values(true),
        Kind::Sampler | Kind::Schedule | Kind::Profile => arg.allow_hyphen_values(true),
        // What is wrong with a number below 0 is said of the number.
        Kind::Whole { .. } | Kind::Number { .. } | Kind::PerStep { .. } => {
            arg.value_parser(move |text: &str| number(key, text)).allow_negative_numbers(true)
        }
        Kind::Numbers { .. } | Kind::Size | Kind::Seed => arg.allow_negative_numbers(true),
    }
}

/// The flag that names a file with the words of a key.
fn file_flag(key: &Key) -> Option<&'static str> {
    if let Kind::Words { file } = key.kind { Some(file) } else { None }
}

fn file_arg(key: &'static Key, flag: &'static str, file: &'static str) -> Arg {
    let what = key.label.unwrap_or(flag).to_lowercase();
    Arg::new(file)
        .long(file)
        .help(format!("File with the {what}; `-` is standard input"))
        .help_heading(heading(key))
        .value_name("FILE")
        .value_parser(path())
        .allow_hyphen_values(true)
        .conflicts_with(flag)
}

fn heading(key: &Key) -> Option<&'static str> {
    tables().iter().find(|table| table.name == key.table).map(|table| table.title)
}

fn value_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Words { .. } => "TEXT",
        Kind::File | Kind::Output => "FILE",
        Kind::Folder => "DIR",
        Kind::Choice(_) | Kind::Sampler | Kind::Schedule | Kind::Profile | Kind::Backend => "NAME",
        Kind::Whole { .. } => "N",
        Kind::Number { .. } => "X",
        Kind::PerStep { .. } => "X",
        Kind::Numbers { .. } => "X,X,…",
        Kind::Names => "NAME,NAME,…",
        Kind::Places => "N,N-N",
        Kind::Size => "SIZE",
        Kind::Seed => "SEED",
        Kind::Noise => "SOURCE",
        Kind::Upscaler => "NAME|FILE",
        Kind::Options => "NAME=VALUE",
    }
}

/// A number, or numbers by step. Whether it is in the range is looked at together with the config's; here it is only named.
fn number(key: &Key, text: &str) -> Result<String, String> {
    let value = key.read(text);
    let by_step = matches!(key.kind, Kind::PerStep { .. }) && value.per_step().is_some();
    match value.number() {
        Some(_) => Ok(text.to_owned()),
        None if by_step => Ok(text.to_owned()),
        None => Err(format!("expected {}", key.kind)),
    }
}

/// The command with the names of a registry in its help and completions.
pub(super) fn offering(command: Command, registry: &Catalog) -> Command {
    flagged().into_iter().fold(command, |command, (key, flag)| match key.kind {
        Kind::Sampler | Kind::Schedule | Kind::Profile => {
            command.mut_arg(flag, |arg| arg.value_parser(Names(names(&key.kind, registry))))
        }
        Kind::Words { .. } | Kind::File | Kind::Folder | Kind::Output | Kind::Choice(_) | Kind::Backend => command,
        Kind::Whole { .. } | Kind::Number { .. } | Kind::PerStep { .. } | Kind::Numbers { .. } => command,
        Kind::Upscaler => command,
        Kind::Size | Kind::Seed | Kind::Noise | Kind::Names | Kind::Places | Kind::Options => command,
    })
}

/// Names of a registry: offered in help and completions, but not enforced, since the registry accepts more spellings and
/// says better what is wrong.
#[derive(Clone, Debug)]
struct Names(Vec<String>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().cloned().map(PossibleValue::new)))
    }
}

/// Any text, also one that begins with a dash, but not a flag whose neighbour is missing.
#[derive(Clone)]
struct Words;

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        let is_flag = |long: &str| command.get_arguments().any(|arg| arg.get_long() == Some(long));
        if !text.strip_prefix("--").is_some_and(is_flag) {
            return Ok(text);
        }
        let flag = arg.map_or_else(String::new, ToString::to_string);
        let message = format!("a value is required for '{flag}', and '{text}' is a flag");
        Err(Error::raw(ErrorKind::InvalidValue, message).with_cmd(command))
    }
}

/// A path, which may begin with a dash too.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    Words.map(PathBuf::from)
}
