//! What this process holds of memory, as Linux and the program's allocator tell it.

use std::fs;

use memory::{Bytes, DeviceReport, MemoryReport, Part, Plan};

use crate::{Ceiling, CeilingOf, Threads, limits::in_kib, plans};

/// What a process of this engine holds that does nothing yet: its code and libraries as far as they are read, the lists of samplers, keys
/// and families, a config and its model's headers.
pub(crate) const PROCESS: u64 = 38 << 20; // measured at 36 of a build without optimisation, whose code is larger

/// What each of its threads holds: its stack as far as it is used, what the allocator sets aside for it, and what kernels pack for it.
const THREAD: u64 = 1 << 20;

/// The most that the process had in memory since it began; `None` where the system does not say.
fn most() -> Option<Bytes> {
    in_kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:").map(Bytes)
}

/// What the process has in memory now: what is its own, and of files no more than its code may take, as the system takes back what it read of others.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let of = |name| in_kib(&status, name);
    Some(of("RssAnon:")? + of("RssFile:")?.min(of("VmExe:")? + of("VmLib:")?).min(PROCESS))
}

/// What a plan counts of the process, whatever it draws.
pub(crate) fn parts(threads: &Threads) -> [Part; 2] {
    let [process, of_threads] = plans::PROCESS;
    let bytes = THREAD.saturating_mul(threads.running() as u64);
    [Part::fixed(process, Bytes(PROCESS)), Part::fixed(of_threads, Bytes(bytes))]
}

/// What of a ceiling is left for a picture.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// What counts against the ceiling by now.
    pub(crate) held: u64,
}

/// What is left of a ceiling beside so many bytes that are known to be held. `memory` bounds the whole process, so what it holds is subtracted;
/// the system's limits already report what is free.
pub(crate) fn left(ceiling: &Ceiling, known: u64) -> Left {
    let held = match ceiling.from {
        CeilingOf::Config => {
            let in_use = (kernels::HugePages::in_use() as u64).max(known);
            // The allocator does not count small blocks, of which a loaded model has many.
            PROCESS.saturating_add(in_use).max(resident().unwrap_or(0))
        }
        _ => 0,
    };
    Left { bytes: ceiling.bytes.0.saturating_sub(held), held }
}

/// While it lives, the allocator keeps nothing of what is freed: the blocks of decoders have other sizes than what comes of them.
pub(crate) struct NothingKept(usize);

impl NothingKept {
    pub(crate) fn from_here() -> Self {
        Self(kernels::HugePages::limit(0))
    }
}

impl Drop for NothingKept {
    fn drop(&mut self) {
        kernels::HugePages::limit(self.0);
    }
}

/// Has the allocator keep no more than so much of what is freed: that is memory too.
pub fn limit_kept(most: Bytes) {
    kernels::HugePages::limit(usize::try_from(most.0).unwrap_or(usize::MAX));
}

/// Tells what a run holds of memory beside what its plan says.
#[derive(Clone, Debug)]
pub struct MemoryWatch {
    pub(crate) plan: Plan,
    pub(crate) model: String,
    /// How many events of the run there were.
    pub(crate) at: u64,
    /// What configs call the device that it computes on, where that is not the CPU.
    pub(crate) device: Option<String>,
}

impl MemoryWatch {
    /// What the run holds at the end of a stage, as [`Plan`] calls it: `pictures`, `encode`, `sample`, `enlarge` or `decode`.
    pub fn report(&self, stage: &str) -> MemoryReport {
        MemoryReport {
            at: self.at,
            stage: stage.to_owned(),
            model: self.model.clone(),
            planned: self.plan.at(stage).unwrap_or(self.plan.total()),
            allocated: kernels::HugePages::most_in_use().map(|bytes| Bytes(bytes as u64)),
            process: most(),
            device: self.device.iter().map(|name| of_device(name)).collect(),
        }
    }

    /// What the whole run was planned to hold.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn of_device(name: &str) -> DeviceReport {
    DeviceReport { name: name.to_owned(), free: core_tensor::free_memory(name).map(Bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_held_in_small_blocks_counts_against_a_ceiling_of_the_process() {
        const MIB: u64 = 1 << 20;
        let left = |from| left(&Ceiling { bytes: Bytes(4096 * MIB), from }, 0);
        let before = left(CeilingOf::Config);
        let blocks: Vec<_> = (0..16 << 10).map(|i| vec![i as u8 | 1; 16 << 10]).collect();
        let beside = left(CeilingOf::Config);
        // as much as they hold, but for what the process's own estimate has beyond what it takes now
        assert!(beside.held.saturating_sub(before.held) > 256 * MIB - PROCESS, "{} of {}", beside.held, before.held);
        assert_eq!(beside.bytes + beside.held, 4096 * MIB);
        assert_eq!(left(CeilingOf::Machine).held, 0);
        drop(blocks);
    }
}
