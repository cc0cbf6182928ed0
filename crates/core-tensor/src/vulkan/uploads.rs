//! What is on its way to an adapter.
//!
//! wgpu copies what is written to a buffer into memory that the adapter sees, which is the card's own where the host sees that, and has it until the
//! adapter has copied it on. CubeCL lets 64 such copies wait, of whatever size. So whoever brings weights waits for those before.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::wgpu::wgpu::{self, SubmissionIndex};

use super::watch;
use crate::{Device, gpu::panics::caught};

/// Bytes that may be on their way beside what is brought now, where that is less: small copies take longer to wait for than to make.
const LITTLE: u64 = 16 << 20;

/// Bytes for which nobody waits, of which CubeCL's 64 are [`LITTLE`].
const FEW: u64 = LITTLE / 64;

/// An adapter's queue, and what was written to it that may not be there yet.
#[derive(Clone, Debug)]
pub(super) struct Uploads {
    queue: wgpu::Queue,
    waiting: Arc<Mutex<VecDeque<(u64, SubmissionIndex)>>>,
}

impl Uploads {
    pub(super) fn of(queue: wgpu::Queue) -> Self {
        Self { queue, waiting: Arc::default() }
    }

    /// Leaves no more on its way than so many bytes, as they were written.
    fn wait(&self, handle: &wgpu::Device, at_most: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.iter().map(|(bytes, _)| bytes).sum::<u64>() > at_most
            && let Some((_, index)) = waiting.pop_front()
        {
            let there = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
            // Who reads of a lost device hears of it.
            let _ = catch_unwind(AssertUnwindSafe(|| handle.poll(there)));
        }
    }

    fn sent(&self, bytes: u64) {
        // What was written goes with the next submission, be there anything else in it or not. A driver without memory for that makes wgpu panic.
        let Some(index) = caught(|| self.queue.submit([])) else { return };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((bytes, index));
    }
}

/// Has so many bytes written to a device by `write`, and `flush` have all of them passed to wgpu, once there is room for them on their way. On one of
/// another back end they are written at once.
pub(crate) fn upload<T>(device: &Device, bytes: u64, write: impl FnOnce() -> T, flush: impl FnOnce()) -> T {
    let known = (bytes > FEW).then(|| Some((watch::handle(device)?, watch::uploads(device)?))).flatten();
    let Some((handle, uploads)) = known else { return write() };
    uploads.wait(&handle, bytes.max(LITTLE));
    let written = write();
    caught(flush);
    uploads.sent(bytes);
    written
}
