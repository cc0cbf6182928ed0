//! Matrices `[out, in]`: unpacked, in the kernels' order, or still in their file.

use std::{ops::Range, sync::Arc};

use kernels::{Compute, Epilogue, PackedMatrix};

use super::{Factor, Format, PANEL, Product, Residency, Stored, computed::Origin, stored::FLOATS};
use crate::{
    Device, Tensor,
    cpu::{self, Rows, Values},
    tensor,
};

/// A matrix `[out, in]` that inputs are multiplied with.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few hundred")]
pub enum Matrix {
    /// Unpacked, f32.
    Dense(Tensor<2>),
    /// On the CPU, in the order that its kernels read.
    Panels(PackedMatrix),
    /// Where and as it is stored.
    Mapped(Arc<MappedMatrix>),
}

impl Matrix {
    /// A matrix of a format whose values can be read, held as a residency says.
    pub(super) fn held(stored: Stored, device: &Device, residency: Residency, compute: Compute) -> Self {
        let held = match residency {
            Residency::Mapped => {
                return Self::computed(Origin::Stored(stored), device, compute);
            }
            Residency::Unpacked if cpu::is(device) => Self::Panels(packed(&stored, compute)),
            Residency::Unpacked => Self::Dense(dense(&stored, device)),
        };
        stored.give_back();
        held
    }

    /// A matrix whose values are had anew, some rows at a time, in each multiplication.
    pub(super) fn computed(origin: Origin, device: &Device, compute: Compute) -> Self {
        Self::Mapped(Arc::new(MappedMatrix { origin, device: device.clone(), compute }))
    }
}

impl Factor<2> for Matrix {
    /// `x · selfᵀ`: `[n, in]` to `[n, out]`.
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(w) => x.matmul(w.clone().transpose()),
            Self::Panels(w) => multiply(w, &x, Epilogue::default()),
            Self::Mapped(w) => w.product(&x),
        }
    }
}

/// `[…, in]` to `[…, out]`.
pub(crate) fn multiply<const D: usize>(w: &PackedMatrix, x: &Tensor<D>, epilogue: Epilogue) -> Tensor<D> {
    let mut shape = x.dims();
    assert_eq!(shape[D - 1], w.d_in(), "columns for a matrix [{}, {}]", w.d_out(), w.d_in());
    shape[D - 1] = w.d_out();
    let rows = Rows::of(x).expect(F32);
    cpu::tensor(shape, |out| kernels::linear(w, rows.values(), rows.count, rows.stride, epilogue, out))
}

/// Why what a layer on the CPU is given can be read.
pub(crate) const F32: &str = "a model computes in f32, on the device that it was loaded on";

/// A matrix in the order that it is multiplied in.
fn packed(stored: &Stored, compute: Compute) -> PackedMatrix {
    let [d_out, d_in] = [stored.shape()[0], stored.shape()[1]];
    stored.with_values(|values| PackedMatrix::pack(cpu::isa(), compute, d_out, d_in, values)).expect(FLOATS)
}

fn dense(stored: &Stored, device: &Device) -> Tensor<2> {
    tensor(stored.to_f32().expect(FLOATS), [stored.shape()[0], stored.shape()[1]], device)
}

/// A matrix that stays in its file, or is computed, and is unpacked some rows at a time.
#[derive(Debug)]
pub struct MappedMatrix {
    origin: Origin,
    device: Device,
    compute: Compute,
}

impl MappedMatrix {
    fn product(&self, x: &Tensor<2>) -> Tensor<2> {
        let stored = match &self.origin {
            Origin::Stored(stored) if !stored.is_scaled() => Some(stored),
            Origin::Stored(_) | Origin::Computed { .. } => None,
        };
        let fused = stored.and_then(|stored| Some((stored, stored.format().product()?)));
        let parts = match fused.filter(|_| cpu::is(&self.device)) {
            Some((stored, product)) => {
                stored.segments().map(|matrix| self.fused(stored.format(), product, matrix, x)).collect()
            }
            None => {
                let out = self.origin.height();
                let panels = (0..out).step_by(PANEL);
                panels.map(|row| self.panel(x, row..(row + PANEL).min(out))).collect()
            }
        };
        Tensor::cat(parts, 1)
    }

    fn panel(&self, x: &Tensor<2>, rows: Range<usize>) -> Tensor<2> {
        let stored = self.origin.rows(rows);
        if cpu::is(&self.device) {
            return multiply(&packed(&stored, self.compute), x, Epilogue::default());
        }
        x.clone().matmul(dense(&stored, &self.device).transpose())
    }

    fn fused(&self, format: Format, product: Product, matrix: &[u8], x: &Tensor<2>) -> Tensor<2> {
        let [n, d_in] = x.dims();
        let d_out = matrix.len() / format.bytes() * format.weights() / d_in;
        let mut out = vec![0.0; n * d_out];
        product(matrix, d_in, &Values::of(x).expect(F32), &mut out);
        tensor(out, [n, d_out], &self.device)
    }
}
