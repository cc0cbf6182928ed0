//! Matrices `[out, in]`: unpacked, in the kernels' order, or still in their file.

use std::{ops::Range, sync::Arc};

use kernels::{Compute, Epilogue, IntegerMatrix, KeptMatrix, MatrixRef, PackedMatrix, PackedPair, RowSource, WithPair};

use super::{
    Beside, Factor, Format, OnDevice, PANEL, Product, Stored, Weight,
    computed::Origin,
    joined::Factors,
    passing::{Passing, Seat},
    stored::FLOATS,
    weight::PAIR,
};
use crate::{
    Device, Tensor,
    cpu::{self, Rows, Values},
    device::lasting,
    device_matrix::DeviceMatrix,
    packing::Content,
    place::Place,
    tensor,
};

/// A matrix `[out, in]` that inputs are multiplied with.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few hundred")]
pub enum Matrix {
    /// On the CPU, in the order that its kernels read.
    Panels(PackedMatrix),
    /// On another device.
    Device(DeviceMatrix),
    /// Where and as it is stored.
    Mapped(Arc<MappedMatrix>),
}

impl Matrix {
    /// A matrix of a format whose values can be read, unpacked.
    pub(super) fn held(stored: Stored, device: &Device, compute: Compute) -> Self {
        // Integers are multiplied as they are stored, so that nothing is gained by holding them in another way.
        if are_integers(&stored, device, compute) {
            return Self::computed(Origin::Stored(stored), device, compute);
        }
        let held = match cpu::is(device) {
            true => Self::Panels(packed(&stored, compute)),
            false => Self::Device(lasting(device, || DeviceMatrix::brought(&stored, device, compute))),
        };
        stored.give_back();
        held
    }

    /// The same, left where it is stored.
    pub(super) fn in_file(stored: Stored, device: &Device, compute: Compute, passing: &Passing) -> Self {
        let (shape, source) = ([stored.shape()[0], stored.shape()[1]], stored.clone());
        let content = stored.packing(Place::of(device, compute)).map_or(Content::Dense(shape), Content::Packed);
        let fill = move |to: &mut [u8]| match content {
            Content::Packed(packing) => source.write_packed(&packing, to),
            Content::Dense(_) => source.write(compute, to),
        };
        let seat = passing.seat(device, compute, content, Box::new(fill));
        Self::Mapped(Arc::new(MappedMatrix { origin: Origin::Stored(stored), device: device.clone(), compute, seat }))
    }

    /// A pair of factors `[rank, in, 1, 1]` and `[out, rank, 1, 1]`, unpacked.
    pub(super) fn pair(factors: [&Stored; 2], device: &Device, compute: Compute) -> Factors<Self> {
        let [[d_out, rank], [_, d_in]] = [factors[1], factors[0]].map(|factor| [factor.shape()[0], factor.shape()[1]]);
        if !cpu::is(device) {
            return Factors::Each(factors.map(|factor| {
                let shape = factor.shape()[..2].to_vec();
                Self::held(factor.clone().reshape(shape), device, compute)
            }));
        }
        let [down, up] = factors;
        let shape = [d_out, rank, d_in];
        let packed =
            down.with_values(|down| up.with_values(|up| PackedPair::pack(cpu::isa(), compute, shape, [down, up])));
        let packed = packed.flatten().expect(FLOATS);
        factors.into_iter().for_each(Stored::give_back);
        Factors::Packed(packed)
    }

    /// A matrix whose values are had anew, some rows at a time, in each multiplication.
    pub(super) fn computed(origin: Origin, device: &Device, compute: Compute) -> Self {
        Self::Mapped(Arc::new(MappedMatrix { origin, device: device.clone(), compute, seat: None }))
    }
}

impl Matrix {
    /// What the kernels of the CPU multiply with, where they do, with what follows a product as part of it.
    pub(crate) fn for_kernels(&self) -> Option<MatrixRef<'_>> {
        match self {
            Self::Mapped(mapped) if mapped.product_of_format().is_some() => None,
            Self::Panels(_) | Self::Mapped(_) | Self::Device(_) => self.in_kernels(),
        }
    }

    /// The same where its format has a product of its own, too, which knows nothing of what is beside it.
    pub(super) fn in_kernels(&self) -> Option<MatrixRef<'_>> {
        match self {
            Self::Panels(matrix) => Some(matrix.into()),
            Self::Mapped(mapped) => mapped.in_kernels(),
            Self::Device(_) => None,
        }
    }
}

impl Factor<2> for Matrix {
    /// `x · selfᵀ`: `[n, in]` to `[n, out]`.
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Device(w) => w.product(&x),
            Self::Panels(w) => multiply(w, &x, Epilogue::default()),
            Self::Mapped(w) => w.product(&x),
        }
    }
}

impl Beside<Matrix> {
    /// What the kernels of the CPU multiply with, where the weight and a pair are all that counts.
    pub(crate) fn for_kernels<'a>(&'a self, own: &'a Matrix) -> Option<WithPair<'a>> {
        if !self.others.is_empty() {
            return None;
        }
        match &self.pair {
            Some(pair) => Some(WithPair::new(own.in_kernels()?, Some(pair.packed()?))),
            None => own.for_kernels().map(WithPair::from),
        }
    }
}

impl Weight<Matrix> {
    /// The weight's product with `x` `[n, in]`, and what the branches add to it, `[n, out]`.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let Beside { pair, others } = self.beside();
        let with_pair =
            pair.as_ref().and_then(|pair| Some(WithPair::new(self.own.in_kernels()?, Some(pair.packed()?))));
        let y = match (with_pair, &pair) {
            (Some(both), _) => multiply(both, &x, Epilogue::default()),
            (None, Some(pair)) => pair.onto(self.own.product(x.clone()), x.clone()).expect(PAIR),
            (None, None) => self.own.product(x.clone()),
        };
        self.others_onto(&others, y, &x)
    }
}

/// `[…, in]` to `[…, out]`.
pub(crate) fn multiply<'w, const D: usize>(w: impl Into<WithPair<'w>>, x: &Tensor<D>, epilogue: Epilogue) -> Tensor<D> {
    let w = w.into();
    let (mut shape, matrix) = (x.dims(), w.matrix());
    assert_eq!(shape[D - 1], matrix.d_in(), "columns for a matrix [{}, {}]", matrix.d_out(), matrix.d_in());
    shape[D - 1] = matrix.d_out();
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

/// A matrix that stays in its file, or is computed, and is unpacked some rows at a time.
#[derive(Debug)]
pub struct MappedMatrix {
    origin: Origin,
    device: Device,
    compute: Compute,
    /// Where it has its turn among others of its source.
    seat: Option<Seat>,
}

impl MappedMatrix {
    /// As the kernels of the CPU take it: stored there.
    fn in_kernels(&self) -> Option<MatrixRef<'_>> {
        match &self.origin {
            Origin::Stored(stored) if are_integers(stored, &self.device, self.compute) => {
                let shape = [stored.shape()[0], stored.shape()[1]];
                Some(IntegerMatrix::of(cpu::isa(), shape, stored).into())
            }
            Origin::Stored(_) | Origin::Computed { .. } => self.kept().map(MatrixRef::from),
        }
    }

    /// The same, of values.
    fn kept(&self) -> Option<KeptMatrix<'_>> {
        let Origin::Stored(stored) = &self.origin else { return None };
        let shape = [stored.shape()[0], stored.shape()[1]];
        cpu::is(&self.device).then(|| KeptMatrix::of(cpu::isa(), self.compute, shape, stored))
    }

    /// What its format multiplies with on the CPU, where it has something of its own.
    fn product_of_format(&self) -> Option<(&Stored, Product)> {
        let Origin::Stored(stored) = &self.origin else { return None };
        let product = stored.format().product().filter(|_| cpu::is(&self.device) && !stored.is_scaled())?;
        Some((stored, product))
    }

    /// All of it, brought to the device; `None` on the CPU.
    pub(crate) fn on_device(&self) -> Option<OnDevice> {
        let whole = || DeviceMatrix::brought(&self.origin.rows(0..self.origin.height()), &self.device, self.compute);
        let brought = || self.seat.as_ref().and_then(Seat::bring);
        (!cpu::is(&self.device)).then(|| brought().map_or_else(|| OnDevice::Own(whole()), OnDevice::Passing))
    }

    fn product(&self, x: &Tensor<2>) -> Tensor<2> {
        if let Some(w) = self.on_device() {
            return w.product(x);
        }
        let parts = match (self.product_of_format(), self.in_kernels()) {
            (Some((stored, product)), _) => {
                stored.segments().map(|matrix| self.fused(stored.format(), product, matrix, x)).collect()
            }
            (None, Some(matrix)) => return multiply(matrix, x, Epilogue::default()),
            (None, None) => {
                let out = self.origin.height();
                (0..out).step_by(PANEL).map(|row| self.panel(x, row..(row + PANEL).min(out))).collect()
            }
        };
        Tensor::cat(parts, 1)
    }

    fn panel(&self, x: &Tensor<2>, rows: Range<usize>) -> Tensor<2> {
        multiply(&packed(&self.origin.rows(rows), self.compute), x, Epilogue::default())
    }

    fn fused(&self, format: Format, product: Product, matrix: &[u8], x: &Tensor<2>) -> Tensor<2> {
        let [n, d_in] = x.dims();
        let d_out = matrix.len() / format.bytes() * format.weights() / d_in;
        let mut out = vec![0.0; n * d_out];
        product(matrix, d_in, &Values::of(x).expect(F32), &mut out);
        tensor(out, [n, d_out], &self.device)
    }
}

/// Whether a matrix is multiplied with as integers.
fn are_integers(stored: &Stored, device: &Device, compute: Compute) -> bool {
    compute == Compute::Integers && cpu::is(device) && stored.integers().is_some()
}

impl RowSource for Stored {
    fn read(&self, row: usize, first: usize, to: &mut [f32]) {
        Stored::read(self, row * self.shape()[1] + first, to);
    }
}
