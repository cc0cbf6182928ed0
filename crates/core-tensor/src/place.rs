//! Where layers are held.

use kernels::Compute;

use crate::format::Format;

/// Where layers are held, and the number format that they are multiplied in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the order of the CPU's kernels.
    Cpu(Compute),
    /// On a device that has kernels of ours.
    Device(Compute),
    /// On one that has none, which computes in f32.
    Other,
}

impl Place {
    /// Whether matrices of a format are held here as they are stored, if they lie as that asks: those that a device would make larger. Floats of
    /// 16 bits are not where products are of 16 bits, in which they would cost a launch each.
    pub(crate) fn takes(self, format: Format) -> bool {
        match self {
            Self::Cpu(_) => false,
            Self::Device(Compute::Bf16 | Compute::F16) => ![Format::F16, Format::BF16].contains(&format),
            Self::Device(Compute::F32 | Compute::Tf32 | Compute::Integers) => true,
            Self::Other => true,
        }
    }
}
