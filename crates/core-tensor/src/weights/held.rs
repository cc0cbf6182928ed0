//! What layers hold of matrices: unpacked, in the kernels' order, or still in their file.

use std::{ops::Range, sync::Arc};

use kernels::{Compute, Epilogue, PackedConv};

use super::{Stored, WHOLE_ROWS};
use crate::{
    Device, Tensor,
    cpu::{self, Rows},
    tensor,
};

/// A matrix that multiplies without being unpacked by its owner.
pub trait PackedMatrix: Send + Sync {
    /// `x · selfᵀ`: `[n, in]` to `[n, out]`.
    fn matmul(&self, x: Tensor<2>) -> Tensor<2>;

    /// The whole matrix in f32, `[out, in]`.
    fn dequantize(&self) -> Tensor<2>;

    /// Bytes held in memory or mapped.
    fn bytes(&self) -> u64;
}

/// A matrix of parameters, `[out, in]`.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few hundred")]
pub enum Weight {
    /// Unpacked, f32.
    Dense(Tensor<2>),
    /// On the CPU, in the order that its kernels read.
    Panels(kernels::PackedMatrix),
    /// In a form that only its own multiplication understands.
    Packed(Arc<dyn PackedMatrix>),
}

impl Weight {
    /// `x · selfᵀ`: `[n, in]` to `[n, out]`.
    pub fn matmul(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Weight::Dense(w) => x.matmul(w.clone().transpose()),
            Weight::Panels(w) => multiply(w, &x, Epilogue::default()),
            Weight::Packed(w) => w.matmul(x),
        }
    }
}

/// `[…, in]` to `[…, out]`.
pub(crate) fn multiply<const D: usize>(w: &kernels::PackedMatrix, x: &Tensor<D>, epilogue: Epilogue) -> Tensor<D> {
    let mut shape = x.dims();
    assert_eq!(shape[D - 1], w.d_in(), "columns for a matrix [{}, {}]", w.d_out(), w.d_in());
    shape[D - 1] = w.d_out();
    let rows = Rows::of(x).expect(F32);
    cpu::tensor(shape, |out| kernels::linear(w, rows.values(), rows.count, rows.stride, epilogue, out))
}

/// Why what a layer on the CPU is given can be read.
pub(crate) const F32: &str = "a model computes in f32, on the device that it was loaded on";

/// The parameters of a convolution, `[c_out, c_in, kernel, kernel]`.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few dozen")]
pub enum Filter {
    /// Unpacked, f32.
    Dense(Tensor<4>),
    /// On the CPU, in the order that its kernels read.
    Panels(PackedConv),
}

/// An embedding table, `[rows, columns]`.
#[derive(Clone)]
pub struct Table {
    pub(super) stored: Stored,
    pub(super) device: Device,
}

impl Table {
    /// One row for each id, `[ids.len(), columns]`.
    ///
    /// # Panics
    /// If an id is not below the number of rows.
    pub fn rows(&self, ids: &[usize]) -> Tensor<2> {
        let shape = [ids.len(), self.stored.shape()[1]];
        let row = |&id| self.stored.rows(id..id + 1).expect(WHOLE_ROWS).to_f32().expect(FLOATS);
        tensor(ids.iter().flat_map(row).collect(), shape, &self.device)
    }

    /// How many rows there are.
    pub fn height(&self) -> usize {
        self.stored.shape()[0]
    }
}

/// A matrix in the order that it is multiplied in.
pub(super) fn packed(stored: &Stored, compute: Compute) -> kernels::PackedMatrix {
    let [d_out, d_in] = [stored.shape()[0], stored.shape()[1]];
    stored.with_values(|values| kernels::PackedMatrix::pack(cpu::isa(), compute, d_out, d_in, values)).expect(FLOATS)
}

/// A matrix that stays in its file.
pub(super) struct MappedMatrix {
    pub(super) stored: Stored,
    pub(super) device: Device,
    pub(super) compute: Compute,
}

impl MappedMatrix {
    /// Rows unpacked at a time: a panel of 512 rows of Flux's widest matrix (15,360 columns) is 30 MB.
    const PANEL: usize = 512;

    fn product(&self, x: &Tensor<2>, rows: Range<usize>) -> Tensor<2> {
        if cpu::is(&self.device) {
            return multiply(&packed(&self.stored.rows(rows).expect(WHOLE_ROWS), self.compute), x, Epilogue::default());
        }
        x.clone().matmul(self.panel(rows).transpose())
    }

    fn panel(&self, rows: Range<usize>) -> Tensor<2> {
        let shape = [rows.len(), self.stored.shape()[1]];
        let values = self.stored.rows(rows).expect(WHOLE_ROWS).to_f32().expect(FLOATS);
        tensor(values, shape, &self.device)
    }
}

impl PackedMatrix for MappedMatrix {
    fn matmul(&self, x: Tensor<2>) -> Tensor<2> {
        let out = self.stored.shape()[0];
        let panels =
            (0..out).step_by(Self::PANEL).map(|row| self.product(&x, row..(row + Self::PANEL).min(out))).collect();
        Tensor::cat(panels, 1)
    }

    fn dequantize(&self) -> Tensor<2> {
        self.panel(0..self.stored.shape()[0])
    }

    fn bytes(&self) -> u64 {
        self.stored.byte_len() as u64
    }
}

/// Why the values of a tensor that was looked at can be read.
pub(super) const FLOATS: &str = "the format was checked when the tensor was looked at";

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::{
        Residency, Weights, values,
        weights::{
            Format,
            tests::{Memory, halves},
        },
    };

    #[test]
    fn a_matrix_multiplies_the_same_however_it_is_stored_and_held() {
        // given a matrix higher than one panel, in each format, whole and put together from two
        let (rows, columns) = (MappedMatrix::PANEL + 7, 5);
        let w: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.37).sin()).collect();
        let f16s: Vec<u16> = w.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
        let bf16s: Vec<u16> = w.iter().map(|&v| bf16::from_f32(v).to_bits()).collect();
        let full = Stored::of(&w, vec![rows, columns]);
        let stored = [
            Stored::stacked(&[full.rows(0..100).unwrap(), full.rows(100..rows).unwrap()]).unwrap(),
            full,
            halves(Format::F16, &f16s, vec![rows, columns]),
            halves(Format::BF16, &bf16s, vec![rows, columns]),
        ];
        let device = Device::flex();
        let x = tensor((0..10).map(|i| i as f32).collect(), [2, columns], &device);
        for stored in stored {
            let dense = Weight::Dense(tensor(stored.to_f32().unwrap(), [rows, columns], &device));
            let expected = values(&dense.matmul(x.clone()));
            let source = Memory::of([("w", stored)]);
            for (residency, compute) in [
                (Residency::Mapped, Compute::F32),
                (Residency::Unpacked, Compute::F32),
                (Residency::Mapped, Compute::Bf16),
                (Residency::Unpacked, Compute::Bf16),
            ] {
                // when it is multiplied
                let weights = Weights::of(&source, &device, residency).computed_in(compute);
                let [head, tail] = weights.weights("w", [100, rows - 100], columns).unwrap();
                let whole = weights.weight("w", [rows, columns]).unwrap().matmul(x.clone());
                let parts = Tensor::cat(vec![head.matmul(x.clone()), tail.matmul(x.clone())], 1);
                // then the product is that of the unpacked one, to the precision that was asked for
                let allowed = if compute == Compute::F32 { 1e-4 } else { 0.2 };
                for product in [whole, parts] {
                    for (found, expected) in values(&product).iter().zip(&expected) {
                        assert!((found - expected).abs() < allowed, "{residency:?} {compute:?} {found} {expected}");
                    }
                }
            }
        }
    }
}
