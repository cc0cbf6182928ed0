//! What has no room on a device, and passes through its memory while it is computed with.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use kernels::Compute;

use crate::{
    Device,
    cuda::{Ahead, Brought, Fill},
    device_matrix::DeviceMatrix,
    packing::Content,
};

/// What passes through a device's memory of one source.
#[derive(Default)]
pub(super) struct Passing(OnceLock<Option<Arc<Ahead>>>);

/// A place among those that pass.
pub(super) struct Seat {
    ahead: Arc<Ahead>,
    number: usize,
}

impl Passing {
    /// A place for a matrix; `None` where nothing is brought ahead of its use, as on the CPU.
    pub(super) fn seat(&self, device: &Device, compute: Compute, content: Content, fill: Fill) -> Option<Seat> {
        let ahead = self.0.get_or_init(|| Ahead::on(device).map(Arc::new)).clone()?;
        let number = ahead.enrol(content, compute, fill);
        Some(Seat { ahead, number })
    }
}

impl Seat {
    /// What has this place, on the device; `None` where it has to be had in another way.
    pub(super) fn bring(&self) -> Option<Brought> {
        self.ahead.bring(self.number)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Seat({})", self.number)
    }
}

/// A matrix on a device, to be dropped once what is computed with it is asked for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a matrix is a handle of fixed size, and one of them is there at a time")]
pub(crate) enum OnDevice {
    /// Memory of its own.
    Own(DeviceMatrix),
    /// Memory that others pass through.
    Passing(Brought),
}

impl Deref for OnDevice {
    type Target = DeviceMatrix;

    fn deref(&self) -> &DeviceMatrix {
        match self {
            Self::Own(matrix) => matrix,
            Self::Passing(brought) => brought,
        }
    }
}
