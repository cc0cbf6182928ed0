//! Whether an adapter is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::wgpu::wgpu;

use crate::Error;

/// What of an adapter wgpu tells by a panic. One that is there has those who wait for what it has done woken.
pub(super) fn is_lost(handle: &wgpu::Device) -> bool {
    catch_unwind(AssertUnwindSafe(|| handle.poll(wgpu::PollType::Poll))).is_err()
}

pub(super) fn lost() -> Error {
    Error::DeviceFault { reason: "the device is lost".into() }
}
