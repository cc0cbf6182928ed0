//! What a card failed of.
//!
//! wgpu tells of a failure to a function of the device, on the thread that asked for the work, and the work's results are then memory
//! that nobody has written. So a failure stays until new work begins, and whoever looks at a value of the device before hears of it. A
//! device that is lost answers no read any more: [`answer`](super::answer) and CubeCL see to that.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    iter,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::wgpu::wgpu;
use cubecl::client::Client;

use super::loss::{Handle, lost};
use crate::{Device, Error, panics::Heard};

/// The devices that are in use, by their adapters' numbers.
pub(super) static OPENED: Mutex<BTreeMap<usize, Opened>> = Mutex::new(BTreeMap::new());

/// A device, and what it failed of.
#[derive(Debug)]
pub(crate) struct Opened {
    device: Device,
    handle: Handle,
    watch: Watch,
    /// Bytes of the largest buffer that a kernel takes.
    largest: u64,
}

impl Opened {
    /// Hears what the device behind `handle` says from now on.
    pub(super) fn new(device: Device, handle: Handle, client: &Client, largest: u64) -> Self {
        let watch = Watch::over(&handle.device, client);
        Self { device, handle, watch, largest }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }
}

/// What wgpu said first.
#[derive(Clone, Debug)]
struct Watch(Arc<Mutex<Told>>);

#[derive(Debug)]
struct Told {
    fault: Option<Fault>,
    /// Panics of the device that are no fault of the work that began since.
    before: Heard,
    was_panic_told: bool,
}

#[derive(Debug)]
struct Fault {
    reason: String,
    is_told: bool,
}

impl Fault {
    fn of(reason: String) -> Self {
        Self { reason, is_told: false }
    }
}

impl Watch {
    /// Hears what a device says from now on.
    fn over(device: &wgpu::Device, client: &Client) -> Self {
        let watch = Self(Arc::new(Mutex::new(Told { fault: None, before: Heard::all(client), was_panic_told: false })));
        let heard = watch.clone();
        device.on_uncaptured_error(Arc::new(move |error| heard.hear(&error)));
        watch
    }

    fn hear(&self, error: &wgpu::Error) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.fault.get_or_insert_with(|| Fault::of(reason(error)));
    }

    fn tell(&self) -> Option<Error> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = &mut *told;
        match (&mut told.fault, told.before.since()) {
            (Some(fault), _) => {
                fault.is_told = true;
                Some(Error::on_device(&format_args!("{}", fault.reason)))
            }
            (None, Some(panic)) => {
                told.was_panic_told = true;
                Some(panic)
            }
            (None, None) => None,
        }
    }

    /// Whether there was something that somebody had heard of.
    fn forget(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_told = told.fault.take_if(|fault| fault.is_told).is_some() || told.was_panic_told;
        if was_told {
            told.was_panic_told = false;
            told.before = told.before.again();
        }
        was_told
    }
}

/// The first line of an error and the last of its causes.
fn reason(error: &wgpu::Error) -> String {
    if let wgpu::Error::OutOfMemory { .. } = error {
        return "out of device memory".into();
    }
    let causes = iter::successors(Some(error as &dyn StdError), |&error| error.source());
    let causes: Vec<_> = causes.map(|cause| cause.to_string()).collect();
    let first = causes.first().and_then(|cause| cause.lines().find(|line| !line.trim().is_empty())).unwrap_or_default();
    match causes.last().and_then(|cause| cause.lines().rfind(|line| !line.trim().is_empty())) {
        Some(last) if last.trim() != first.trim() => format!("{}: {}", first.trim().trim_end_matches(':'), last.trim()),
        _ => first.trim().to_owned(),
    }
}

/// Those that nobody opens any more, on which others may still compute.
static REPLACED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// What is known of a device that is in use; `None` for one of another back end.
fn known<T>(device: &Device, of: impl Fn(&Opened) -> T) -> Option<T> {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = opened.values().find(|known| known.device == *device).map(&of);
    drop(opened);
    let replaced = REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
    now.or_else(|| replaced.iter().find(|known| known.device == *device).map(of))
}

/// What the device failed of since work began on it last; `None` also for a device of another back end.
pub(crate) fn failure(device: &Device) -> Option<Error> {
    let told = known(device, |known| known.watch.tell())??;
    Some(match told {
        // wgpu gives up a device that it has no memory for.
        Error::DeviceMemory { .. } => told,
        // What is asked of a lost one fails of much else.
        _ if handle(device).is_some_and(|handle| handle.is_lost()) => lost(),
        _ => told,
    })
}

/// Lets new work begin on a device behind work that failed of it. What was to hold the results of that is given back first, as nothing can
/// be computed in it.
pub(crate) fn ready_again(device: &Device) {
    // The device's own thread must not find a lock held.
    let watch = known(device, |known| known.watch.clone());
    if watch.is_some_and(|watch| watch.forget()) {
        device.memory_cleanup();
    }
}

/// wgpu's own device behind one that is in use; `None` for one of another back end.
pub(super) fn handle(device: &Device) -> Option<Handle> {
    known(device, |known| known.handle.clone())
}

/// wgpu's own devices behind all adapters that were opened.
pub(super) fn handles() -> Vec<Handle> {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let replaced = REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.values().chain(&*replaced).map(|known| known.handle.clone()).collect()
}

/// Bytes of the largest buffer that kernels of a device take; `None` for a device of another back end.
pub(crate) fn largest_buffer(device: &Device) -> Option<u64> {
    known(device, |known| known.largest)
}

/// Has a device opened anew by whoever asks for it next, such as one that is lost.
pub(crate) fn forget(device: &Device) {
    replace(device, |_| {});
}

/// Takes a device from those that are opened. `first` is told the number of its adapter, before anybody can open that anew.
fn replace(device: &Device, first: impl FnOnce(usize)) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let index = opened.iter().find(|(_, known)| known.device == *device).map(|(index, _)| *index);
    let replaced = index.and_then(|index| {
        first(index);
        opened.remove(&index)
    });
    drop(opened);
    REPLACED.lock().unwrap_or_else(PoisonError::into_inner).extend(replaced);
}

/// Adapters whose instructions for products of matrices were seen to compute wrongly, by their numbers.
static WITHOUT_UNITS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Has a device opened anew by whoever asks for it next, without its instructions for products of matrices.
pub(crate) fn without_units(device: &Device) {
    replace(device, |adapter| {
        WITHOUT_UNITS.lock().unwrap_or_else(PoisonError::into_inner).insert(adapter);
    });
    device.memory_cleanup();
}

pub(super) fn is_without_units(adapter: usize) -> bool {
    WITHOUT_UNITS.lock().unwrap_or_else(PoisonError::into_inner).contains(&adapter)
}

/// Tests of one adapter come one after the other: what it fails of is told to whoever looks.
#[cfg(test)]
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use cubecl::future::block_on;

    use super::{super::adapters, *};
    use crate::{Tensor, device, on_host, ready_again, tensor, vulkan::Which};

    fn software() -> Device {
        device("vulkan:software").expect("Mesa's software driver")
    }

    fn hear(device: &Device, error: wgpu::Error) {
        OPENED.lock().unwrap().values().find(|known| known.device == *device).unwrap().watch.hear(&error);
    }

    #[test]
    fn a_failure_is_told_to_every_read_until_new_work_begins() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let device = software();
        let x = tensor(vec![1.0, 2.0], [2], &device);
        assert_eq!(on_host(&x).unwrap(), [1.0, 2.0]);
        let full = || wgpu::Error::OutOfMemory { source: "no memory".into() };
        hear(&device, full());
        // what nobody has heard of is not forgotten
        ready_again(&device);
        for _ in 0..2 {
            assert!(matches!(on_host(&x), Err(Error::DeviceMemory { .. })), "{:?}", on_host(&x));
            assert!(matches!(crate::is_finite(&x), Err(Error::DeviceMemory { .. })));
        }
        ready_again(&device);
        assert_eq!(on_host(&x).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn a_buffer_larger_than_any_is_memory_and_the_device_goes_on() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let device = software();
        let huge = Tensor::<2>::zeros([1 << 15, 1 << 14], &device);
        let failed = on_host(&huge.sum()).expect_err("2 GiB in one buffer");
        assert!(matches!(failed, Error::DeviceMemory { .. }), "{failed:?}");
        ready_again(&device);
        let x = tensor(vec![1.0, 2.0], [2], &device);
        assert_eq!(on_host(&(x.clone() + x)).unwrap(), [2.0, 4.0]);
    }

    #[test]
    fn an_error_of_wgpu_is_told_by_its_first_line_and_its_last_cause() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        software();
        // another device of the adapter, whose errors nobody else hears
        let (_, adapter) = adapters::chosen(Which::Software, adapters::all()).unwrap();
        let (other, _) = block_on(adapter.handle.request_device(&Default::default())).expect("a second device");
        let scope = other.push_error_scope(wgpu::ErrorFilter::Validation);
        let size = other.limits().max_buffer_size + 4;
        let usage = wgpu::BufferUsages::STORAGE;
        let _refused =
            other.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let told = reason(&block_on(scope.pop()).expect("a buffer beyond the limit"));
        assert!(told.contains(&size.to_string()) && !told.contains('\n'), "{told}");
    }
}
