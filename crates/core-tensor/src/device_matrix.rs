//! Matrices in a device's memory.

use crate::{Tensor, packed::Packed};

/// A matrix `[out, in]` in the memory of a device that is not the CPU.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few hundred")]
pub enum DeviceMatrix {
    /// Unpacked: f32, or on a device that multiplies in another number format, in that.
    Dense(Tensor<2>),
    /// As it is stored.
    Packed(Packed),
}

impl DeviceMatrix {
    /// `x · selfᵀ + bias`, `[…, in]` to `[…, out]`, of few rows in f32; `None` where that is not had without unpacking the matrix.
    pub(crate) fn thin<const D: usize>(&self, x: &Tensor<D>, bias: Option<&Tensor<1>>) -> Option<Tensor<D>> {
        match self {
            Self::Dense(_) => None,
            Self::Packed(packed) => packed.thin(x, bias),
        }
    }

    /// The matrix in the number format that is computed in.
    pub(crate) fn unpacked(&self) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.clone(),
            Self::Packed(packed) => packed.unpacked(),
        }
    }
}
