//! What there is of [`crate::later`] in a build for the CPU alone: nothing that could be reached.

use burn::tensor::{Bool, Tensor};

use crate::Error;

pub(crate) fn told(
    _: &Tensor<1, Bool>,
) -> Option<impl FnOnce() -> Result<Result<bool, Error>, Error> + Send + 'static> {
    None::<fn() -> Result<Result<bool, Error>, Error>>
}
