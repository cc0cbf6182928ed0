use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Device, Error, tensor, values};

/// The device of a name such as `cpu`, `cuda:0` or `vulkan:1`; without a number the first.
///
/// # Errors
/// [`Error::UnknownDevice`] for any other name, [`Error::MissingBackend`] for a back end that is not compiled in,
/// [`Error::Device`] for one that can't compute here, such as without a driver.
pub fn device(name: &str) -> Result<Device, Error> {
    let unknown = || Error::UnknownDevice { name: name.to_owned() };
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => (backend, index.parse::<usize>().map_err(|_| unknown())?),
        None => (name, 0),
    };
    let device = match backend {
        "cpu" if index == 0 => return Ok(Device::flex()),
        "cuda" => cuda(index)?,
        "vulkan" => vulkan(index)?,
        _ => return Err(unknown()),
    };
    answers(name, || {
        let x = tensor(vec![1.0, 2.0, 3.0, 4.0], [2, 2], &device);
        values(&x.clone().matmul(x))
    })?;
    Ok(device)
}

/// Gives back to the system what a device keeps of freed memory for operations of the same sizes: for between two stages, whose sizes
/// differ.
pub fn give_back_freed(device: &Device) {
    kernels::HugePages::give_back_all();
    device.memory_cleanup();
}

/// Whether `work`, the square of a small matrix, comes out right. Burn's back ends panic where a driver, an adapter or a compiler is
/// missing, and where an index is too high.
fn answers(name: &str, work: impl FnOnce() -> Vec<f32>) -> Result<(), Error> {
    const SQUARE: [f32; 4] = [7.0, 10.0, 15.0, 22.0];
    let broken = |reason: String| Err(Error::Device { name: name.to_owned(), reason });
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(found) if found == SQUARE => Ok(()),
        Ok(found) => broken(format!("it multiplies wrongly: {found:?} instead of {SQUARE:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            broken(
                text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gives no reason".into()),
            )
        }
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

    #[test]
    fn a_device_that_panics_or_computes_wrongly_is_an_error_with_the_reason() {
        assert!(answers("x:0", || vec![7.0, 10.0, 15.0, 22.0]).is_ok());
        let reason = |work: fn() -> Vec<f32>| match answers("x:0", work) {
            Err(Error::Device { name, reason }) if name == "x:0" => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(|| panic!("no adapter")), "no adapter");
        assert_eq!(reason(|| panic!("no adapter {}", 3)), "no adapter 3");
        assert_eq!(reason(|| std::panic::panic_any(7)), "it gives no reason");
        assert!(reason(|| vec![0.0; 4]).contains("multiplies wrongly"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_back_end_left_out_of_the_build_is_named() {
        assert!(matches!(device("cuda:0"), Err(Error::MissingBackend { backend: "cuda" })));
    }
}
