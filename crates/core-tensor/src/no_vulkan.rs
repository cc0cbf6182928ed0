//! What there is of [`crate::vulkan`] in a build without it: nothing that could be reached.

use std::{str::FromStr, time::Duration};

use burn::tensor::TensorData;

use crate::{Device, Error, Tensor};

/// Which adapter is asked for, of which there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Any.
    Best,
}

impl FromStr for Which {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "software" || text.parse::<usize>().is_ok() { Ok(Self::Best) } else { Err(()) }
    }
}

pub(crate) fn open(_: Which) -> Result<Device, Error> {
    Err(Error::MissingBackend { backend: "vulkan" })
}

pub(crate) fn has_f16(_: Which) -> bool {
    false
}

pub(crate) fn about(_: Which) -> Option<String> {
    None
}

pub(crate) fn free_memory(_: Which) -> Option<u64> {
    None
}

#[cfg(feature = "cuda")]
pub(crate) fn answer<T>(_: &Device, read: impl Future<Output = T>) -> Result<T, Error> {
    Ok(cubecl::future::block_on(read))
}

pub(crate) fn data<const D: usize>(_: &Tensor<D>) -> Option<Result<TensorData, Error>> {
    None
}

pub(crate) fn rest(_: Duration) {}

pub(crate) fn failure(_: &Device) -> Option<Error> {
    None
}

pub(crate) fn ready_again(_: &Device) {}

pub(crate) fn largest_buffer(_: &Device) -> Option<u64> {
    None
}

pub(crate) fn without_units(_: &Device) {}

pub(crate) fn forget(_: &Device) {}
