use std::path::PathBuf;

use diffusion_engine::{Error as RunError, Unwritable};
use forge::{Fault, Likeness, TextError};

use crate::hints;

/// What the command returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The library.
    #[error(transparent)]
    Forge(#[from] forge::Error),
    /// A prompt's file could not be read.
    #[error("cannot read the prompt `{}`", path.display())]
    ReadPrompt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextError,
    },
    /// Standard input in the place of several files.
    #[error("standard input can be read once, and {flags} ask for it")]
    StandardInputTwice {
        /// The flags that name it.
        flags: String,
    },
    /// A picture for standard output while something else uses it.
    #[error("a picture can't be written to standard output {user}")]
    StandardOutputTaken {
        /// Who has it.
        user: &'static str,
    },
    /// A file in the place of a new one.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A picture that was drawn again, and is another.
    #[error("`{}` was not drawn again: {}", picture.display(), told(likeness, *pixels))]
    NotTheSame {
        /// The picture.
        picture: PathBuf,
        /// How the new one compares.
        likeness: Likeness,
        /// How many pixels the new one has.
        pixels: usize,
    },
    /// Pictures of a folder that could not be drawn; the others are.
    #[error("{} of {of} pictures could not be drawn: {}", failed.len(), listed(failed))]
    PassedOver {
        /// Those that could not, of which the notes say why.
        failed: Vec<PathBuf>,
        /// How many pictures the folder has.
        of: usize,
        /// Whether all that were tried had too little memory.
        lacks_memory: bool,
    },
    /// A device that computes wrongly.
    #[error("computed wrongly: {}", few(operations))]
    Wrong {
        /// Operation, number format and device.
        operations: Vec<String>,
    },
    /// A mistake in this program.
    #[error("this is a bug in forge: {message} ({place})")]
    Bug {
        /// What the program says.
        message: String,
        /// Where in its source.
        place: String,
    },
}

impl Error {
    /// An error of writing, of which what `--force` would replace is told as that.
    pub(crate) fn or_exists(error: forge::Error) -> Self {
        match error {
            forge::Error::Write { path, source: Unwritable::Taken }
            | forge::Error::Run(RunError::Write { path, source: Unwritable::Taken }) => Self::Exists { path },
            other => other.into(),
        }
    }

    /// The exit code of the command: 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected,
    /// 5 a picture drawn again is another, 130 interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Forge(error) => match error.fault() {
                Fault::Run => 1,
                Fault::Usage => 2,
                Fault::Memory => 3,
                Fault::Model => 4,
                Fault::Stopped => 130,
            },
            Self::ReadPrompt { .. } | Self::StandardInputTwice { .. } | Self::StandardOutputTaken { .. } => 2,
            Self::Exists { .. } => 2,
            Self::NotTheSame { .. } => 5,
            Self::PassedOver { lacks_memory: true, .. } => 3,
            Self::PassedOver { .. } | Self::Wrong { .. } | Self::Bug { .. } => 1,
        }
    }

    /// What to do about it, as an action, where something helps.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Forge(error) => hints::hint(error),
            Self::Exists { .. } => Some("`--force` replaces it".into()),
            Self::PassedOver { .. } => Some("the notes say why; the same command goes on with these alone".into()),
            Self::Wrong { .. } => Some("compute on another device, and please report it".into()),
            Self::Bug { .. } => Some("please report it, with the command and what it was given".into()),
            Self::ReadPrompt { .. } | Self::StandardInputTwice { .. } | Self::StandardOutputTaken { .. } => None,
            Self::NotTheSame { .. } => Some("the notes say what differs from how it was made".into()),
        }
    }
}

/// The first of some operations, and how many there are.
fn few(operations: &[String]) -> String {
    const NAMED: usize = 3;
    let named = operations[..operations.len().min(NAMED)].join("; ");
    match operations.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// The first of many files.
fn listed(files: &[PathBuf]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = files.iter().take(SHOWN).map(|file| format!("`{}`", file.display())).collect();
    let more = if files.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}

/// How a picture compares with another of so many pixels.
pub(crate) fn told(likeness: &Likeness, pixels: usize) -> String {
    match likeness {
        Likeness::Equal => format!("all {pixels} pixels are equal"),
        Likeness::Differs { pixels: differ, most } => {
            format!("{differ} of {pixels} pixels differ, by up to {most} of 255")
        }
        Likeness::OtherSize { width, height } => format!("it has another size, {width}x{height}"),
        Likeness::Lossy => "its file does not keep pixels as they were, so that they are not compared".to_owned(),
    }
}

/// Errors of the crates under the library, as the library has them.
macro_rules! through_the_library {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Forge(error.into())
            }
        })*
    };
}

through_the_library!(samplers::Error, diffusion_engine::Error);
