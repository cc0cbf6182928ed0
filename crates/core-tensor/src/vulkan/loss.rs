//! Whether an adapter is lost.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use burn::tensor::wgpu::wgpu::{self, PollType};

use crate::Error;

/// An adapter as wgpu has it.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
}

impl Handle {
    /// Whether it is lost. One that is there has those who wait for what it has done woken.
    ///
    /// wgpu panics where the driver says so now. Where it did before, work is not taken any more, of which the number is one that nobody can wait for.
    pub(super) fn is_lost(&self) -> bool {
        let poll = || {
            let index = self.queue.submit([]);
            let there = PollType::Wait { submission_index: Some(index), timeout: Some(Duration::ZERO) };
            matches!(self.device.poll(there), Err(wgpu::PollError::WrongSubmissionIndex(..)))
        };
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or(true)
    }
}

pub(super) fn lost() -> Error {
    Error::DeviceFault { reason: "the device is lost".into() }
}
