//! What there is of [`crate::panics`] in a build for the CPU alone: no device that could panic.

use std::any::Any;

use crate::Error;

pub(crate) fn of_device(_: &(dyn Any + Send)) -> Option<Error> {
    None
}
