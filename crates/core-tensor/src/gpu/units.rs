//! Instructions of Vulkan's cards for products of matrices.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use burn_cubecl::CubeDevice;

use super::View;
use crate::Device;

/// Instructions of a card for products of small matrices in f16, with sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    /// Rows and columns of the matrices: 8 or 16.
    pub(crate) side: usize,
    /// Threads that have a matrix in common at most.
    pub(crate) lanes: usize,
}

/// The devices that have them, and whether they were seen to compute rightly by them.
static KNOWN: Mutex<Vec<(CubeDevice, Units, Trial)>> = Mutex::new(Vec::new());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "vulkan"), allow(dead_code, reason = "nobody is known"))]
pub(super) enum Trial {
    /// Nobody asked for products of f16 yet.
    None,
    /// This thread computes by them, and no other.
    Now(ThreadId),
    Passed,
}

/// Has kernels take a device's instructions for products of matrices once they were tried.
#[cfg_attr(not(feature = "vulkan"), allow(dead_code, reason = "CUDA's kernels take them in any case"))]
pub(crate) fn know(device: &Device, units: Units) {
    let Some(view) = View::on(device) else { return };
    let mut known = known();
    known.retain(|(other, ..)| *other != view.0.device);
    known.push((view.0.device, units, Trial::None));
}

/// The side of the matrices that a device's instructions for products take, where kernels for Vulkan use them.
pub(crate) fn side_of_units(device: &Device) -> Option<usize> {
    Some(View::on(device)?.matrix_units()?.side)
}

pub(super) fn known() -> MutexGuard<'static, Vec<(CubeDevice, Units, Trial)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// The device's instructions for products of matrices, where WGSL has them.
    pub(super) fn matrix_units(&self) -> Option<Units> {
        let is_on = |trial: &Trial| [Trial::Passed, Trial::Now(thread::current().id())].contains(trial);
        let known = known();
        known.iter().find(|(device, _, trial)| *device == self.0.device && is_on(trial)).map(|(_, units, _)| *units)
    }
}
