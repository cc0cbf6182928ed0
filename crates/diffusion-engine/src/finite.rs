use core_tensor::{Tensor, is_finite};

use crate::{Error, Stage};

/// Goes on with values that are numbers.
///
/// # Errors
/// [`Error::NotFinite`], and [`Error::Weights`] for a device that could not compute them.
pub(crate) fn finite<const D: usize>(stage: Stage, values: &Tensor<D>) -> Result<(), Error> {
    if is_finite(values)? { Ok(()) } else { Err(Error::NotFinite { stage }) }
}
