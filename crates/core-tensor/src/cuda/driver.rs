//! What has to be on a machine before anything is computed: a driver, a device, a compiler and its headers.
//!
//! CubeCL asks for none of it and panics on a thread of its own where it is missing.

use std::mem::MaybeUninit;

use cudarc::driver::{
    result::{self, device},
    sys::{self, CUdevice, CUdevice_attribute as Attribute},
};

/// A card that the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// As the driver calls it.
    pub(crate) name: String,
    /// Compute capability: major and minor.
    pub(crate) capability: (i32, i32),
    /// Bytes of its memory.
    pub(crate) memory: u64,
}

/// The cards of this machine, in the order in which they are numbered.
///
/// # Errors
/// Why there is no driver to ask.
#[allow(unsafe_code, reason = "whether a library can be loaded is found out by loading it")]
pub(crate) fn cards() -> Result<Vec<Card>, String> {
    // SAFETY: a library is looked for and, where it is there, loaded: the driver's own, whose initialisers are sound.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver: libcuda can't be loaded".into());
    }
    result::init().map_err(|error| refused("cuInit", error))?;
    let count = device::get_count().map_err(|error| refused("cuDeviceGetCount", error))?;
    (0..count).map(card).collect()
}

fn card(index: i32) -> Result<Card, String> {
    let device = device::get(index).map_err(|error| refused("cuDeviceGet", error))?;
    let name = device::get_name(device).map_err(|error| refused("cuDeviceGetName", error))?;
    let attribute = |which| attribute(device, which);
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    Ok(Card { name, capability, memory: memory(device)? })
}

#[allow(unsafe_code, reason = "the driver's functions are foreign")]
fn attribute(device: CUdevice, which: Attribute) -> Result<i32, String> {
    // SAFETY: the device was just got from the driver.
    unsafe { device::get_attribute(device, which) }.map_err(|error| refused("cuDeviceGetAttribute", error))
}

#[allow(unsafe_code, reason = "the driver's functions are foreign")]
fn memory(device: CUdevice) -> Result<u64, String> {
    let mut bytes = MaybeUninit::uninit();
    // SAFETY: the driver writes one number, and is believed only where it says that it has.
    unsafe {
        sys::cuDeviceTotalMem_v2(bytes.as_mut_ptr(), device)
            .result()
            .map(|()| bytes.assume_init() as u64)
            .map_err(|error| refused("cuDeviceTotalMem", error))
    }
}

/// Bytes of a card's memory that nobody uses; `None` where the driver does not tell.
#[allow(unsafe_code, reason = "the driver's functions are foreign")]
pub(crate) fn free_memory(index: usize) -> Option<u64> {
    let device = device::get(i32::try_from(index).ok()?).ok()?;
    // SAFETY: the device was just got from the driver; its primary context is kept by CubeCL as well, and is given back here once.
    unsafe {
        let context = result::primary_ctx::retain(device).ok()?;
        let asked = result::ctx::set_current(context).and_then(|()| result::mem_get_info());
        let _ = result::primary_ctx::release(device);
        asked.ok().map(|(free, _)| free as u64)
    }
}

/// Finds out whether a card can compute.
///
/// # Errors
/// What is missing, and how it is got.
#[allow(unsafe_code, reason = "whether a library can be loaded is found out by loading it")]
pub(crate) fn ready(index: usize) -> Result<(), String> {
    let cards = cards()?;
    if index >= cards.len() {
        return Err(match cards.len() {
            0 => "the driver knows no card".into(),
            1 => "the driver knows one card, which is cuda:0".into(),
            n => format!("the driver knows {n} cards, cuda:0 to cuda:{}", n - 1),
        });
    }
    // SAFETY: as with the driver.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err("there is no libnvrtc, the compiler of NVIDIA's CUDA toolkit, in the loader's path".into());
    }
    let headers = cubecl::cuda::install::cuda_path().map(|path| path.join("include"));
    match headers {
        None => Err("there is no CUDA toolkit: CUDA_PATH is not set, and /usr/local/cuda is not there".into()),
        Some(folder) if !folder.join(HEADER).is_file() => {
            Err(format!("the CUDA toolkit is incomplete: {} has no {HEADER}", folder.display()))
        }
        Some(_) => Ok(()),
    }
}

/// What every kernel includes.
const HEADER: &str = "cuda_fp16.h";

fn refused(function: &str, error: cudarc::driver::DriverError) -> String {
    let text =
        error.error_string().map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned());
    format!("the driver refuses {function}: {text}")
}
