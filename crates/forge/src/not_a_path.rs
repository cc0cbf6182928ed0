use std::fmt;

/// What is written where a path belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAPath {
    /// `https://…`, `file://…`.
    Address,
    /// `owner/name`, as models are called on hubs, and no such folder.
    HubId,
    /// `$HOME/…`, `%USERPROFILE%\…`: shells know variables, files don't.
    Variable,
    /// `~name/…`.
    HomeOfAnother,
    /// `C:\…` where there are no drives.
    OfWindows,
    /// `~/…` of somebody who has no home folder.
    NoHome,
    /// Nothing.
    Empty,
}

impl fmt::Display for NotAPath {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "an address",
            Self::HubId => "not there, and looks like the name of a model on a hub",
            Self::Variable => "a path with a variable in it, which is not filled in",
            Self::HomeOfAnother => "a path in somebody's home folder, which is not looked up",
            Self::OfWindows => "a path of Windows",
            Self::NoHome => "a path in the home folder, and there is none",
            Self::Empty => "empty",
        })
    }
}
