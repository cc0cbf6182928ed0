use std::{io, path::PathBuf};

/// Bytes of a name, on every common file system.
pub(crate) const LONGEST_NAME: usize = 255;

/// Bytes of a path that Linux takes (`PATH_MAX` without its terminating zero), less what the temporary name may add.
pub(crate) const LONGEST_PATH: usize = 4095 - 64;

/// Why a place can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// A folder has the name.
    #[error("there is a folder of this name")]
    Folder,
    /// A pipe, a socket or a device has the name; replacing it would take it away from others.
    #[error("this is {kind}, and only a file can be replaced")]
    Special {
        /// What it is.
        kind: &'static str,
    },
    /// The path ends in no name.
    #[error("it names no file")]
    NoName,
    /// The name ends in no format that pictures are written in.
    #[error("its name does not end in {endings}")]
    Ending {
        /// How it may end.
        endings: &'static str,
    },
    /// A part of the path that no file system can hold.
    #[error("`{start}…` has {bytes} bytes, a name has at most {LONGEST_NAME}")]
    LongName {
        /// Its first characters.
        start: String,
        /// Its length.
        bytes: usize,
    },
    /// A path that the system does not take.
    #[error("the path has {bytes} bytes, at most {LONGEST_PATH} are accepted")]
    LongPath {
        /// Its length.
        bytes: usize,
    },
    /// A part of the path is a link whose target does not exist.
    #[error("`{}` is a link to something that does not exist", link.display())]
    DanglingLink {
        /// The link.
        link: PathBuf,
    },
    /// A part of the path is a link that can't be followed, as one that leads to itself.
    #[error("`{}` is a link that can't be followed: {error}", link.display())]
    Link {
        /// The link.
        link: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file of this name is there, and is not to be replaced.
    #[error("there is a file of this name")]
    Taken,
    /// A file is mounted there, as into a container.
    #[error("a file is mounted at this name, which no other can take")]
    Mounted,
    /// Another user's file, in a folder where only its owner may replace it.
    #[error("another user's file has this name, in a folder whose files only their owners may replace")]
    Others,
    /// A part of the path is there and is no folder.
    #[error("`{}` is not a folder", path.display())]
    NotAFolder {
        /// The part.
        path: PathBuf,
    },
    /// What the system says.
    #[error(transparent)]
    System(#[from] io::Error),
}
