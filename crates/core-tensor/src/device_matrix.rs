//! Matrices in a device's memory.

use kernels::Compute;

use crate::{Tensor, packed::Packed};

/// A matrix `[out, in]` in the memory of a device that is not the CPU.
#[derive(Clone, Debug)]
pub struct DeviceMatrix {
    held: Held,
    compute: Compute,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few hundred")]
enum Held {
    /// Unpacked: f32, or on a device that multiplies in another number format, in that.
    Dense(Tensor<2>),
    /// As it is stored.
    Packed(Packed),
}

impl DeviceMatrix {
    /// A matrix in the number format of a device on which products are computed in `compute`.
    pub(crate) fn dense(matrix: Tensor<2>, compute: Compute) -> Self {
        Self { held: Held::Dense(matrix), compute }
    }

    /// One as it is stored.
    pub(crate) fn packed(packed: Packed, compute: Compute) -> Self {
        Self { held: Held::Packed(packed), compute }
    }

    /// What its products are computed in.
    pub(crate) fn compute(&self) -> Compute {
        self.compute
    }

    /// `x · selfᵀ + bias`, `[…, in]` to `[…, out]`, of few rows in f32; `None` where that is not had without unpacking the matrix.
    pub(crate) fn thin<const D: usize>(&self, x: &Tensor<D>, bias: Option<&Tensor<1>>) -> Option<Tensor<D>> {
        match &self.held {
            Held::Dense(_) => None,
            Held::Packed(packed) => packed.thin(x, bias),
        }
    }

    /// The matrix in the number format that is computed in.
    pub(crate) fn unpacked(&self) -> Tensor<2> {
        match &self.held {
            Held::Dense(tensor) => tensor.clone(),
            Held::Packed(packed) => packed.unpacked(),
        }
    }
}
