//! Matrices in a device's memory, unpacked and as they are stored.

use kernels::Compute;

use rayon::prelude::*;

use super::{
    Stored,
    segment::{AT_ONCE, FLOATS, Scaled, Segment},
};
use crate::{
    Device, Tensor,
    bits::{Round, Runs},
    device_matrix::DeviceMatrix,
    gpu::{self, After},
    ops::{dtype_on, matmul},
    packed::Packed,
    packing::Packing,
    place::Place,
    tensor,
};

impl DeviceMatrix {
    /// What is stored, brought to a device, unpacked where the device does not take it as it is.
    pub(super) fn brought(stored: &Stored, device: &Device, compute: Compute) -> Self {
        let packing = stored.packing(Place::of(device, compute));
        let packed = packing.and_then(|packing| stored.brought(packing, device, compute));
        match packed {
            Some(packed) => Self::packed(packed, compute),
            None => Self::dense(dense(stored, device, compute), compute),
        }
    }

    /// `x · selfᵀ`, in the number format that is computed in, or of few rows in f32; by Burn's kernels where there are none of ours.
    pub(super) fn product(&self, x: &Tensor<2>) -> Tensor<2> {
        self.thin(x, None).unwrap_or_else(|| {
            let w = self.unpacked();
            let product = gpu::linear(x, &w, self.compute(), After::default());
            product.unwrap_or_else(|| matmul(x.clone().cast(w.dtype()), w.transpose()))
        })
    }
}

fn dense(stored: &Stored, device: &Device, compute: Compute) -> Tensor<2> {
    let shape = [stored.shape()[0], stored.shape()[1]];
    let own = stored.with_values(|values| gpu::matrix(values, shape, compute, device)).expect(FLOATS);
    own.unwrap_or_else(|| tensor(stored.to_f32().expect(FLOATS), shape, device))
}

impl Stored {
    /// How a device holds a matrix as it is stored; `None` where it is unpacked before.
    pub(crate) fn packing(&self, at: Place) -> Option<Packing> {
        let &[d_out, d_in] = self.shape() else { return None };
        let packing = Packing::of(self.format(), [d_out, d_in], at)?;
        if self.is_scaled() { packing.scaled(self.runs()?) } else { Some(packing) }
    }

    /// The same, brought to a device; `None` on the CPU.
    pub(crate) fn brought(&self, packing: Packing, device: &Device, compute: Compute) -> Option<Packed> {
        let mut bytes = vec![0; packing.bytes()];
        self.write_packed(&packing, &mut bytes);
        Packed::upload(bytes, packing, device, dtype_on(device, compute))
    }

    /// Writes all values as a device has them that computes in a number format.
    pub(super) fn write(&self, compute: Compute, to: &mut [u8]) {
        if self.is_plain() {
            return self.with_values(|values| gpu::write(values, compute, to)).expect(FLOATS);
        }
        let width = to.len() / self.shape().iter().product::<usize>().max(1);
        to.par_chunks_mut(AT_ONCE * width).enumerate().for_each(|(i, to)| {
            let mut values = vec![0.0; to.len() / width];
            self.read(i * AT_ONCE, &mut values);
            gpu::write(kernels::Values::F32(&values), compute, to);
        });
    }

    /// Writes a matrix as a device holds it.
    pub(crate) fn write_packed(&self, packing: &Packing, to: &mut [u8]) {
        let scales = if self.is_scaled() { self.scales(packing.run) } else { Vec::new() };
        packing.write(self.segments(), &scales, to);
    }

    /// Weights of a matrix that have a scale in common; `None` where not all have one, or a run is cut.
    fn runs(&self) -> Option<Runs> {
        let &[_, width] = self.shape() else { return None };
        let of = |segment: &Segment| {
            let Scaled { by, first } = segment.scaling.as_ref()?;
            let is_whole =
                |runs: &Runs| [*first, segment.weights()].iter().all(|weights| weights.is_multiple_of(runs.weights));
            by.runs(width).filter(is_whole)
        };
        let (first, rest) = self.segments.split_first()?;
        let runs = of(first)?;
        rest.iter().all(|segment| of(segment) == Some(runs)).then_some(runs)
    }

    /// The scale of each so many weights, where it lies beside the blocks, and what weights are rounded to once they are scaled; the last
    /// may be of fewer weights. `None` where not all have scales, or so many have not one in common.
    pub fn scales_of_runs(&self, run: usize) -> Option<(Vec<f32>, Round)> {
        let width = self.shape().iter().skip(1).product::<usize>();
        let (mut scales, mut round) = (Vec::new(), None);
        let mut segments = self.segments.iter().peekable();
        while let Some(segment) = segments.next() {
            let Scaled { by, first } = segment.scaling.as_ref()?;
            let (of, weights) = (by.runs(width)?, segment.weights());
            let is_last = segments.peek().is_none();
            let is_whole = first.is_multiple_of(of.weights) && (is_last || weights.is_multiple_of(run));
            if run == 0 || !is_whole || !of.weights.is_multiple_of(run) || round.is_some_and(|round| round != of.round)
            {
                return None;
            }
            let mut each = vec![0.0; weights.div_ceil(of.weights)];
            by.scales_of(*first, of.weights, &mut each);
            scales.extend((0..weights.div_ceil(run)).map(|i| each[i * run / of.weights]));
            round = Some(of.round);
        }
        Some((scales, round?))
    }

    /// The scale of each run of so many weights.
    fn scales(&self, run: usize) -> Vec<f32> {
        let of = |segment: &Segment| {
            let mut scales = vec![0.0; segment.weights() / run];
            if let Some(Scaled { by, first }) = &segment.scaling {
                by.scales_of(*first, run, &mut scales);
            }
            scales
        };
        self.segments.iter().flat_map(of).collect()
    }
}
