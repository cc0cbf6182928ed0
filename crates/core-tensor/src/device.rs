use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use kernels::{Compute, HugePages, Isa, Values};

use crate::{Device, Error, cpu, gpu, on_host, packed, panics, tensor, vulkan};

/// The device of a name such as `cpu`, `cuda:0` or `vulkan:1`. Without a number it is CUDA's first and Vulkan's best; `vulkan:software` is
/// an adapter that computes on the CPU, which no other name gets.
///
/// # Errors
/// [`Error::UnknownDevice`] for any other name, [`Error::MissingBackend`] for a back end that is not compiled in,
/// [`Error::Device`] for one that can't compute here, such as without a driver, [`Error::SoftwareAdapter`] for one that computes on the CPU
/// unasked, [`Error::DeviceMemory`] for one whose memory is full.
pub fn device(name: &str) -> Result<Device, Error> {
    let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    opened(name)
}

/// [`device`], for products in a number format: a Vulkan card's instructions for products of f16 are tried before they are relied on, and if their results
/// are wrong, the device is opened anew without them.
///
/// # Errors
/// As [`device`].
pub fn device_for(name: &str, compute: Compute) -> Result<Device, Error> {
    let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let device = opened(name)?;
    if compute != Compute::F16 || gpu::try_out(&device)? {
        return Ok(device);
    }
    vulkan::without_units(&device);
    opened(name)
}

/// Devices are opened, and tried, one at a time: what one fails of is told to whoever looks.
static OPENING: Mutex<()> = Mutex::new(());

fn opened(name: &str) -> Result<Device, Error> {
    let unknown = || Error::UnknownDevice { name: name.to_owned() };
    let (backend, which) = parts(name);
    let number = || which.map_or(Ok(0), |number| number.parse::<usize>().map_err(|_| unknown()));
    let device = match backend {
        "cpu" if number()? == 0 => return Ok(Device::flex()),
        "cuda" => cuda(number()?)?,
        "vulkan" => {
            let which = which_adapter(which).ok_or_else(unknown)?;
            gpu::configure(KERNELS.get().map(PathBuf::as_path));
            vulkan::open(which)?
        }
        _ => return Err(unknown()),
    };
    ready_again(&device);
    answers(name, || square(&device)).inspect_err(|error| match error {
        // Others may compute on it, and have to hear what it fails of.
        Error::DeviceMemory { .. } => {}
        _ => vulkan::forget(&device),
    })?;
    Ok(device)
}

/// A back end, and what its name is followed by.
fn parts(name: &str) -> (&str, Option<&str>) {
    name.split_once(':').map_or((name, None), |(backend, which)| (backend, Some(which)))
}

/// The adapter that a name means, by what follows `vulkan:`.
fn which_adapter(which: Option<&str>) -> Option<vulkan::Which> {
    which.map_or(Some(vulkan::Which::Best), |which| which.parse().ok())
}

/// Lets new work begin on a device behind work that it failed of: until then whoever looks at its values hears of that failure.
pub fn ready_again(device: &Device) {
    vulkan::ready_again(device);
}

/// Waits until a device has done what it was asked for, which is later than it was asked to.
///
/// # Errors
/// [`Error::DeviceMemory`] or [`Error::DeviceFault`] where it could not.
pub fn settled(device: &Device) -> Result<(), Error> {
    if computes_by_itself(device) { on_host(&tensor(vec![0.0], [1], device)).map(drop) } else { Ok(()) }
}

/// Waits until devices have done what they were asked for, but no longer than so long for each: for before a process ends, as some drivers
/// compute on with what is taken from them then.
pub fn rest(patience: Duration) {
    vulkan::rest(patience);
}

/// What a panic tells that went on in whoever waited for a device, as a library below panicked on the device's own thread; `None` for any other.
pub fn of_device(panic: &(dyn Any + Send)) -> Option<Error> {
    panics::of_device(panic)
}

/// Has kernels that a GPU's compiler was asked for kept in a folder of their own, where the next process finds them. It counts from the
/// first device on, and for the whole process.
pub fn keep_kernels_in(folder: PathBuf) {
    // Whoever comes second has come too late.
    let _ = KERNELS.set(folder);
}

static KERNELS: OnceLock<PathBuf> = OnceLock::new();

/// Whether a device of a name has products of f16; false where it is not there.
pub fn has_f16(name: &str) -> bool {
    let (backend, which) = parts(name);
    match backend {
        "cuda" => cfg!(feature = "cuda"),
        "vulkan" => which_adapter(which).is_some_and(vulkan::has_f16),
        _ => false,
    }
}

/// How many of the kernels that NVIDIA's compiler makes of sources of ours this process had to have compiled, as they were not kept.
pub fn compiled_kernels() -> usize {
    gpu::compiled()
}

/// `[[1, 2], [3, 4]]` squared, by the kernels that layers multiply with.
fn square(device: &Device) -> Result<Vec<f32>, Error> {
    // As many columns as a kernel reads at once.
    let row = |a: f32, b: f32| [a, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let x = tensor([row(1.0, 2.0), row(3.0, 4.0)].concat(), [2, 8], device);
    let transposed = [row(1.0, 3.0), row(2.0, 4.0)].concat();
    let own = gpu::matrix(Values::F32(&transposed), [2, 8], Compute::F32, device);
    let w = own.unwrap_or_else(|| tensor(transposed, [2, 8], device));
    let product = gpu::linear(&x, &w, Compute::F32, gpu::After::default());
    on_host(&product.unwrap_or_else(|| x.matmul(w.transpose())))
}

/// A device that a config can name, or a back end without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What a config calls it; a back end's name where there is no device.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Bytes of its own memory, where its driver tells.
    pub memory: Option<u64>,
    /// Why nothing can be computed there.
    pub fault: Option<String>,
}

/// The CPU, and what every other back end finds on this machine. Nothing is computed on any.
pub fn devices() -> Vec<Listed> {
    let cpu =
        Listed { name: "cpu".into(), about: format!("{:?} instructions", Isa::best()), memory: None, fault: None };
    [vec![cpu], listed_cuda(), listed_vulkan()].concat()
}

fn without(backend: &str, fault: String) -> Vec<Listed> {
    vec![Listed { name: backend.into(), about: String::new(), memory: None, fault: Some(fault) }]
}

#[cfg(feature = "cuda")]
fn listed_cuda() -> Vec<Listed> {
    let listed = |(index, card): (usize, crate::cuda::Card)| {
        let (major, minor) = card.capability;
        Listed {
            name: format!("cuda:{index}"),
            about: format!("{}, compute capability {major}.{minor}", card.name),
            memory: Some(card.memory),
            fault: crate::cuda::ready(index).err(),
        }
    };
    match crate::cuda::cards() {
        Ok(cards) if cards.is_empty() => without("cuda", "the driver knows no card".into()),
        Ok(cards) => cards.into_iter().enumerate().map(listed).collect(),
        Err(fault) => without("cuda", fault),
    }
}

#[cfg(not(feature = "cuda"))]
fn listed_cuda() -> Vec<Listed> {
    without("cuda", Error::MissingBackend { backend: "cuda" }.to_string())
}

#[cfg(feature = "vulkan")]
fn listed_vulkan() -> Vec<Listed> {
    let listed = |card: vulkan::Card| {
        let fault = card.fault().map(str::to_owned);
        Listed { name: card.name, about: card.about, memory: card.memory, fault }
    };
    match vulkan::adapters() {
        Ok(cards) if cards.is_empty() => without("vulkan", "the loader knows no adapter".into()),
        Ok(cards) => cards.into_iter().map(listed).collect(),
        Err(fault) => without("vulkan", fault.into()),
    }
}

#[cfg(not(feature = "vulkan"))]
fn listed_vulkan() -> Vec<Listed> {
    without("vulkan", Error::MissingBackend { backend: "vulkan" }.to_string())
}

/// The name of a device and what it is, such as `vulkan:1, NVIDIA H200`; `None` for the CPU, and for one that is not there.
pub fn about(name: &str) -> Option<String> {
    let (backend, which) = parts(name);
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => {
            let index: usize = which.unwrap_or("0").parse().ok()?;
            Some(format!("cuda:{index}, {}", crate::cuda::cards().ok()?.get(index)?.name))
        }
        "vulkan" => vulkan::about(which_adapter(which)?),
        _ => None,
    }
}

/// Bytes of a device's own memory that nobody uses; `None` for the CPU, and where its driver does not tell.
pub fn free_memory(name: &str) -> Option<u64> {
    let (backend, which) = parts(name);
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => crate::cuda::free_memory(which.unwrap_or("0").parse().ok()?),
        "vulkan" => vulkan::free_memory(which_adapter(which)?),
        _ => None,
    }
}

/// Whether the host is free while a device computes: of all but the CPU.
pub fn computes_by_itself(device: &Device) -> bool {
    !cpu::is(device)
}

/// Bytes of the largest tensor that a device computes with, which may be less than it has memory for.
pub fn largest_tensor(device: &Device) -> u64 {
    vulkan::largest_buffer(device).unwrap_or(u64::MAX)
}

/// Gives back to the system what a device keeps of freed memory for operations of the same sizes: for between two stages, whose sizes
/// differ.
pub fn give_back_freed(device: &Device) {
    HugePages::give_back_all();
    device.memory_cleanup();
}

/// The same behind a model that went, whose weights nobody unpacks any more.
pub fn give_back_of_models(device: &Device) {
    packed::forget();
    give_back_freed(device);
}

/// What `make` puts on a device for as long as a model is loaded, each in memory of just its size. What comes and goes shares pages there, and
/// weights leave a fifth of those unused.
pub(crate) fn lasting<T: Send>(device: &Device, make: impl Fn() -> T + Send) -> T {
    device.memory_persistent_allocations((), move |()| make())
}

/// Whether `work`, the square of a small matrix, comes out right. Burn's back ends panic where a driver, an adapter or a compiler is
/// missing, and where an index is too high.
fn answers(name: &str, work: impl FnOnce() -> Result<Vec<f32>, Error>) -> Result<(), Error> {
    const SQUARE: [f32; 4] = [7.0, 10.0, 15.0, 22.0];
    let broken = |reason: String| Err(Error::Device { name: name.to_owned(), reason });
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(found)) if found == SQUARE => Ok(()),
        Ok(Err(memory @ Error::DeviceMemory { .. })) => Err(memory),
        Ok(Err(error)) => broken(error.to_string()),
        Ok(Ok(found)) => broken(format!("it multiplies wrongly: {found:?} instead of {SQUARE:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            match text.as_ref().map(|text| Error::on_device(text)) {
                Some(memory @ Error::DeviceMemory { .. }) => Err(memory),
                _ => broken(text.unwrap_or_else(|| "it gives no reason".into())),
            }
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, Error> {
    let broken = |reason| Error::Device { name: format!("cuda:{index}"), reason };
    crate::cuda::ready(index).map_err(broken)?;
    gpu::configure(KERNELS.get().map(PathBuf::as_path));
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, Error> {
    Err(Error::MissingBackend { backend: "cuda" })
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
        assert!(answers("x:0", || Ok(vec![7.0, 10.0, 15.0, 22.0])).is_ok());
        let reason = |work: fn() -> Result<Vec<f32>, Error>| match answers("x:0", work) {
            Err(Error::Device { name, reason }) if name == "x:0" => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(|| panic!("no adapter")), "no adapter");
        assert_eq!(reason(|| panic!("no adapter {}", 3)), "no adapter 3");
        assert_eq!(reason(|| std::panic::panic_any(7)), "it gives no reason");
        assert!(reason(|| Ok(vec![0.0; 4])).contains("multiplies wrongly"));
        let full = answers("x:0", || panic!("DriverError(CUDA_ERROR_OUT_OF_MEMORY)"));
        assert!(matches!(full, Err(Error::DeviceMemory { .. })), "{full:?}");
    }

    #[test]
    fn what_is_no_name_of_an_adapter_is_unknown_in_every_build() {
        for name in ["vulkan:", "vulkan:x", "vulkan:-1", "vulkan:software:0", "software"] {
            assert!(matches!(device(name), Err(Error::UnknownDevice { .. })), "{name}");
            assert_eq!(about(name), None, "{name}");
        }
        #[cfg(not(feature = "vulkan"))]
        for name in ["vulkan", "vulkan:3", "vulkan:software"] {
            assert!(matches!(device(name), Err(Error::MissingBackend { backend: "vulkan" })), "{name}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_back_end_left_out_of_the_build_is_named() {
        assert!(matches!(device("cuda:0"), Err(Error::MissingBackend { backend: "cuda" })));
    }
}
