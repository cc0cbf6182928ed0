//! What wgpu does not tell of a driver, whether there is one, and the memory of its cards; and what it wants to be told.

use ash::vk;
use burn::tensor::wgpu::wgpu::{self, Adapter, Instance, hal::api::Vulkan};

/// Whether there was a loader to ask, libvulkan, that had an instance to give, which it has not without a driver.
#[allow(unsafe_code, reason = "the driver's handles are foreign")]
pub(super) fn has_loader(instance: &Instance) -> bool {
    // SAFETY: nothing is done with the handle.
    unsafe { instance.as_hal::<Vulkan>() }.is_some()
}

/// wgpu's leave to use what it calls experimental.
#[allow(unsafe_code, reason = "wgpu has it said")]
pub(super) fn experimental(is_used: bool) -> wgpu::ExperimentalFeatures {
    if is_used {
        // SAFETY: what may go wrong are shaders that the driver takes wrongly; what those of ours compute is tried before it is relied on.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// Bytes of a card's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    /// What nobody uses, where the driver has `VK_EXT_memory_budget`.
    pub(super) free: Option<u64>,
}

/// The largest heap that is the card's own; `None` where the driver is too old to be asked.
#[allow(unsafe_code, reason = "the driver's functions are foreign")]
pub(super) fn memory(adapter: &Adapter) -> Option<Memory> {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut asked = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the card is the adapter's, which is held meanwhile; the function is Vulkan's since 1.1, which instance and card are asked
    // for; a driver leaves a structure that it does not know as it is.
    unsafe {
        let adapter = adapter.as_hal::<Vulkan>()?;
        let instance = adapter.shared_instance();
        let of_card = adapter.physical_device_capabilities().properties().api_version;
        if instance.instance_api_version().min(of_card) < vk::API_VERSION_1_1 {
            return None;
        }
        instance.raw_instance().get_physical_device_memory_properties2(adapter.raw_physical_device(), &mut asked);
    }
    let heaps =
        asked.memory_properties.memory_heaps.into_iter().take(asked.memory_properties.memory_heap_count as usize);
    let sizes: Vec<_> = heaps.map(|heap| (heap.flags, heap.size)).collect();
    largest(&sizes, &budget.heap_budget, &budget.heap_usage)
}

/// The largest heap of the card's own, by what the driver tells of each.
fn largest(heaps: &[(vk::MemoryHeapFlags, u64)], budget: &[u64], usage: &[u64]) -> Option<Memory> {
    let own = heaps.iter().enumerate().filter(|(_, (flags, _))| flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
    let (heap, (_, total)) = own.max_by_key(|(_, (_, size))| *size)?;
    // A budget of nothing is one that nobody has filled in.
    let free = Some(budget[heap]).filter(|&all| all > 0).map(|all| all.saturating_sub(usage[heap]));
    Some(Memory { total: *total, free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_card_is_its_largest_heap_and_what_is_left_of_its_budget() {
        let (own, hosts) = (vk::MemoryHeapFlags::DEVICE_LOCAL, vk::MemoryHeapFlags::empty());
        // As a discrete card has them: memory of the host, its own, and the window into its own.
        let heaps = [(hosts, 900), (own, 800), (own, 2)];
        assert_eq!(largest(&heaps, &[850, 700, 2], &[0, 50, 0]), Some(Memory { total: 800, free: Some(650) }));
        assert_eq!(largest(&heaps, &[850, 700, 2], &[0, 701, 0]), Some(Memory { total: 800, free: Some(0) }));
        assert_eq!(largest(&heaps, &[0; 3], &[0; 3]), Some(Memory { total: 800, free: None }));
        assert_eq!(largest(&heaps[..1], &[850], &[0]), None);
    }
}
