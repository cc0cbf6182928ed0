use crate::{Device, Error};

/// The device of a name such as `cpu`, `cuda:0` or `vulkan:1`; without a number the first.
///
/// # Errors
/// [`Error::UnknownDevice`] for any other name, [`Error::MissingBackend`] for a back end that is not compiled in.
pub fn device(name: &str) -> Result<Device, Error> {
    let unknown = || Error::UnknownDevice { name: name.to_owned() };
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => (backend, index.parse::<usize>().map_err(|_| unknown())?),
        None => (name, 0),
    };
    match backend {
        "cpu" if index == 0 => Ok(Device::flex()),
        "cuda" => cuda(index),
        "vulkan" => vulkan(index),
        _ => Err(unknown()),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, Error> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, Error> {
    Err(Error::MissingBackend { backend: "cuda" })
}

#[cfg(feature = "vulkan")]
fn vulkan(index: usize) -> Result<Device, Error> {
    use burn::tensor::DeviceKind;
    Ok(Device::vulkan(if index == 0 { DeviceKind::DefaultDevice } else { DeviceKind::DiscreteGpu(index) }))
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(_: usize) -> Result<Device, Error> {
    Err(Error::MissingBackend { backend: "vulkan" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert!(device("cpu").is_ok());
        assert!(device("cpu:0").is_ok());
    }

    #[test]
    fn a_device_that_does_not_exist_is_an_error() {
        for name in ["", "gpu", "cpu:1", "cuda:x", "cpu:", ":0"] {
            assert!(matches!(device(name), Err(Error::UnknownDevice { .. })), "{name}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_back_end_left_out_of_the_build_is_named() {
        assert!(matches!(device("cuda:0"), Err(Error::MissingBackend { backend: "cuda" })));
    }
}
