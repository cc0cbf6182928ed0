//! A fault of a file with its place.

use crate::GgufFault;

/// A fault, and where in the file it was found.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) at: u64,
    pub(super) fault: GgufFault,
}

impl GgufFault {
    /// The fault at a place in the file.
    pub(super) fn at(self, at: u64) -> Placed {
        Placed { at, fault: self }
    }
}
