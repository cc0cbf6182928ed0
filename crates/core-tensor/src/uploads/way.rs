//! What is on its way to a Vulkan adapter.
//!
//! wgpu copies what is written to a buffer into memory that the adapter sees, which is the card's own where the host sees that, and has it until the
//! adapter has copied it on. CubeCL lets 64 such copies wait, of whatever size. So whoever brings weights waits for those before.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{
    Bytes,
    wgpu::wgpu::{self, SubmissionIndex},
};
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};
use cubecl::{client::Client, server::Handle};

use crate::{Device, Tensor, panics::caught};

/// Bytes that may be on their way beside what is brought now, where that is less: small copies take longer to wait for than to make.
const LITTLE: u64 = 16 << 20;

/// Bytes for which nobody waits, of which CubeCL's 64 are [`LITTLE`].
const FEW: u64 = LITTLE / 64;

/// The ways to all devices that are known.
static WAYS: Mutex<Vec<Way>> = Mutex::new(Vec::new());

/// The way to a device, and what was written to it that may not be there yet.
#[derive(Clone)]
pub(super) struct Way {
    device: Device,
    handle: wgpu::Device,
    queue: wgpu::Queue,
    sent: Arc<Mutex<Sent>>,
}

#[derive(Default)]
struct Sent {
    /// What was written last, which CubeCL may have still.
    last: u64,
    /// What wgpu has, and what it waits behind.
    waiting: VecDeque<(u64, SubmissionIndex)>,
}

/// Tells by what a device is reached.
pub(crate) fn know(device: &Device, handle: &wgpu::Device, queue: wgpu::Queue) {
    let way = Way { device: device.clone(), handle: handle.clone(), queue, sent: Arc::default() };
    WAYS.lock().unwrap_or_else(PoisonError::into_inner).push(way);
}

impl Way {
    /// The way to the device that a tensor is on, for so many bytes; `None` where nobody has to wait.
    pub(super) fn to(like: &CubeTensor, bytes: u64) -> Option<Self> {
        if bytes <= FEW || !matches!(like.device, CubeDevice::Wgpu(_)) {
            return None;
        }
        let device = Tensor::<1>::from_primitive::<CubeBackend>(like.clone()).device();
        WAYS.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|way| way.device == device).cloned()
    }

    /// Bytes on the device, once there is room for them on their way.
    pub(super) fn upload(&self, client: &Client, bytes: Vec<u8>) -> Handle {
        let count = bytes.len() as u64;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.last > 0 {
            // What fails of the device is told where its values are looked at. What was written goes with the next submission, be there anything else in
            // it or not.
            caught(client, || client.flush());
            let index = caught(client, || self.queue.submit([]));
            let last = std::mem::replace(&mut sent.last, 0);
            sent.waiting.extend(index.map(|index| (last, index)));
        }
        if let Some(index) = above(&mut sent.waiting, count.max(LITTLE)) {
            let there = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
            caught(client, || self.handle.poll(there));
        }
        sent.last = count;
        client.create(Bytes::from_bytes_vec(bytes))
    }
}

/// Takes what came first from what waits, until that is no more than so many bytes: where the last of it comes behind, if there was any.
fn above<T>(waiting: &mut VecDeque<(u64, T)>, at_most: u64) -> Option<T> {
    let mut behind = None;
    while waiting.iter().map(|(bytes, _)| bytes).sum::<u64>() > at_most
        && let Some((_, index)) = waiting.pop_front()
    {
        behind = Some(index);
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_waited_for_as_leave_no_more_on_their_way_than_there_is_room_for() {
        let mut waiting = VecDeque::from([(3, 'a'), (4, 'b'), (5, 'c')]);
        assert_eq!(above(&mut waiting, 12), None);
        assert_eq!(above(&mut waiting, 9), Some('a'));
        assert_eq!(above(&mut waiting, 4), Some('c'));
        assert_eq!((above(&mut waiting, 0), waiting.len()), (None, 0));
    }
}
