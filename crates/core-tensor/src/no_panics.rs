//! What there is of [`crate::panics`] in a build for the CPU alone: no device that could panic.

use crate::Error;

pub(crate) fn last() -> Option<Error> {
    None
}
