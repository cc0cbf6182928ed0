//! Cards of every maker, through Burn's back end over wgpu, which speaks Vulkan to them.
//!
//! Kernels are WGSL, which naga makes SPIR-V of for the driver. CubeCL has a compiler of its own for SPIR-V, whose modules declare the
//! memory that a group shares in a way that drivers without `VK_KHR_workgroup_memory_explicit_layout` do not take, software ones among
//! them, and which is chosen when CubeCL is built and not for an adapter: it is left out of the build, so that every adapter computes
//! by the same texts, and those are the ones that are tested.

mod adapters;
mod driver;
mod loss;
mod wait;
mod watch;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
};

use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn_cubecl::CubeBackend;
use cubecl::future::block_on;

#[cfg(test)]
pub(crate) use self::watch::ALONE;
use self::{adapters::Adapter, loss::Handle};
pub(crate) use self::{
    adapters::{Card, Which, about, adapters, free_memory},
    wait::{answer, data, rest},
    watch::{Opened, failure, forget, largest_buffer, ready_again, without_units},
};
use crate::{
    Device, Error, Tensor,
    gpu::{self, Units},
    uploads,
};

/// Kernels that are sent to a card together. It is CubeCL's own number, which an environment variable would change.
const TASKS: usize = 32;

/// The device of an adapter, the same one each time as long as it computes.
///
/// # Errors
/// [`Error::Device`] where there is no such adapter, or none that is a card, [`Error::SoftwareAdapter`] for one that computes on the CPU and
/// was not asked for as such.
pub(crate) fn open(which: Which) -> Result<Device, Error> {
    let (index, adapter) = adapters::chosen(which, adapters::all())?;
    // Held while one is opened, so that no adapter is opened twice.
    let mut opened = watch::OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = opened.get(&index) {
        return Ok(known.device().clone());
    }
    // wgpu takes it for granted that a driver which gives a device gives it a queue, too.
    let units = units(&adapter.handle).filter(|_| !watch::is_without_units(index));
    let now = |units| {
        let now = catch_unwind(AssertUnwindSafe(|| opened_now(adapter, units)));
        now.unwrap_or_else(|_| Err("its driver fails while it is opened".into()))
    };
    let now = match units {
        // A driver that does not give them may still give a device.
        Some(units) => now(Some(units)).or_else(|_| now(None)),
        None => now(None),
    };
    let now = now.map_err(|reason| Error::Device { name: which.to_string(), reason })?;
    let device = now.device().clone();
    opened.insert(index, now);
    Ok(device)
}

fn opened_now(adapter: &Adapter, units: Option<Units>) -> Result<Opened, String> {
    let handle = &adapter.handle;
    let experimental = match units {
        Some(_) => wgpu::Features::all_experimental_mask().difference(UNITS),
        None => wgpu::Features::all_experimental_mask(),
    };
    let asked = wgpu::DeviceDescriptor {
        label: None,
        // All that CubeCL reads off an adapter must be on. Of what is experimental in wgpu kernels of ours use one thing, and buffers that the
        // host maps are slower for the card.
        required_features: handle.features().difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | experimental),
        // The largest buffers and the most bindings that there are.
        required_limits: handle.limits(),
        // CubeCL makes few large buffers and divides them itself.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        experimental_features: driver::experimental(units.is_some()),
        ..Default::default()
    };
    let largest = asked.required_limits.max_storage_buffer_binding_size.min(asked.required_limits.max_buffer_size);
    lacks(&asked.required_limits).map_or(Ok(()), Err)?;
    let (device, queue) = block_on(handle.request_device(&asked)).map_err(|error| error.to_string())?;
    let (adapter, backend) = (handle.clone(), wgpu::Backend::Vulkan);
    let instance = adapters::instance().clone();
    let setup = WgpuSetup { instance, adapter, device: device.clone(), queue: queue.clone(), backend };
    let registered = Device::wgpu_options().setup(setup).tasks_max(TASKS).init().map_err(|error| error.to_string())?;
    // After CubeCL, whose own handler panics on a thread where nobody hears of it.
    let client = Tensor::<1>::empty([1], &registered).try_into_primitive::<CubeBackend>().map(|x| x.client);
    let client = client.map_err(|_| "it is none of CubeCL's")?;
    uploads::know(&registered, &device, queue.clone());
    let opened = Opened::new(registered, Handle { device, queue }, &client, largest);
    if let Some(units) = units {
        gpu::know(opened.device(), units);
    }
    Ok(opened)
}

/// What an adapter's limits are too low for.
fn lacks(limits: &wgpu::Limits) -> Option<String> {
    let needed = [
        // That which rotates heads.
        ("buffers of a kernel", limits.max_storage_buffers_per_shader_stage, 18),
        // Attention.
        ("bytes that the threads of a group share", limits.max_compute_workgroup_storage_size, 32 << 10),
        (
            "threads of a group",
            limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            256,
        ),
    ];
    let lacking = needed.into_iter().find(|(_, found, least)| found < least);
    lacking.map(|(what, found, least)| format!("{what}: it takes {found} at most, of {least} that kernels need"))
}

/// What wgpu calls a card's instructions for products of matrices.
const UNITS: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// An adapter's instructions for products of small matrices of f16 with sums in f32: of the larger ones, where it has several.
fn units(adapter: &wgpu::Adapter) -> Option<Units> {
    if !adapter.features().contains(UNITS | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP) {
        return None;
    }
    let of_f16 = |it: &wgpu::CooperativeMatrixProperties| {
        let formats = (it.ab_type, it.cr_type);
        let is_square = [it.n_size, it.k_size].iter().all(|&side| side == it.m_size);
        let is_ours = formats == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32) && is_square;
        is_ours.then_some(it.m_size as usize)
    };
    let side = adapter.cooperative_matrix_properties().iter().filter_map(of_f16).max()?;
    Some(Units { side, lanes: adapter.get_info().subgroup_max_size as usize })
}

/// Whether an adapter computes in f16, once it is opened.
pub(crate) fn has_f16(which: Which) -> bool {
    adapters::chosen(which, adapters::all())
        .is_ok_and(|(_, adapter)| adapter.handle.features().contains(wgpu::Features::SHADER_F16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_takes_less_than_kernels_need_is_told_what_it_lacks() {
        let enough = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 18,
            max_compute_workgroup_storage_size: 32 << 10,
            max_compute_invocations_per_workgroup: 256,
            max_compute_workgroup_size_x: 256,
            ..wgpu::Limits::default()
        };
        assert_eq!(lacks(&enough), None);
        for (limits, told) in [
            (
                wgpu::Limits { max_storage_buffers_per_shader_stage: 17, ..enough.clone() },
                "buffers of a kernel: it takes 17",
            ),
            (
                wgpu::Limits { max_compute_workgroup_storage_size: 16 << 10, ..enough.clone() },
                "it takes 16384 at most, of 32768",
            ),
            (wgpu::Limits { max_compute_workgroup_size_x: 128, ..enough.clone() }, "threads of a group: it takes 128"),
        ] {
            let found = lacks(&limits).expect("a limit too low");
            assert!(found.contains(told), "{found}");
        }
    }
}
