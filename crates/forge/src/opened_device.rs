//! The device that a config names.

use core_tensor::{Compute, Device};

use crate::Result;

/// A device by its name, ready for the products of a number format. What is wrong with the device is told before what it does not compute in.
pub(crate) fn opened_device(name: &str, compute: impl FnOnce() -> Result<Compute>) -> Result<(Device, Compute)> {
    core_tensor::device(name)?;
    let compute = compute()?;
    Ok((core_tensor::device_for(name, compute)?, compute))
}
