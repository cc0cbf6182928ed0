//! What a load that only looks finds: complaints, and the memory that a real load would take.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kernels::{Compute, PackedConv, PackedMatrix, Values};

use super::Format;
use crate::{Error, cpu};

/// What a load that only looks finds out, see [`super::Weights::survey`]. Clones share it.
#[derive(Clone, Default)]
pub struct Survey {
    found: Arc<Mutex<Found>>,
    on_cpu: Option<Compute>,
}

#[derive(Default)]
struct Found {
    complaints: Vec<Error>,
    unpacked: u64,
    mapped: u64,
}

impl Survey {
    /// The complaints after which a survey ends.
    pub const MOST: usize = 100;

    /// Of a model that would be held on the CPU, computing in this number format, or for `None` on another device, in f32.
    pub fn of_model_on(on_cpu: Option<Compute>) -> Self {
        Self { found: Arc::default(), on_cpu }
    }

    /// Takes every complaint so far: tensors that were missing or did not fit, at most [`Survey::MOST`].
    pub fn complaints(&self) -> Vec<Error> {
        std::mem::take(&mut self.locked().complaints)
    }

    /// Bytes that the model's layers hold in memory, with their matrices unpacked and with them left in their file. Tables always
    /// stay there.
    pub fn bytes(&self) -> [u64; 2] {
        let found = self.locked();
        [found.unpacked, found.mapped]
    }

    /// Keeps a complaint; gives it back, to end the load with, where there are too many.
    pub(super) fn note(&self, error: Error) -> Result<(), Error> {
        let complaints = &mut self.locked().complaints;
        if complaints.len() + 1 >= Self::MOST {
            return Err(error);
        }
        complaints.push(error);
        Ok(())
    }

    /// A tensor that becomes f32 values.
    pub(super) fn holds_floats(&self, shape: &[usize]) {
        let bytes = product(4, shape);
        self.add(bytes, bytes);
    }

    /// A matrix.
    pub(super) fn holds_matrix(&self, format: Format, d_out: usize, d_in: usize) {
        let bytes = match self.on_cpu {
            Some(compute) => Tile::of_matrix(compute, format).times(d_out, d_in, 1),
            None => product(4, &[d_out, d_in]),
        };
        self.add(bytes, 0);
    }

    /// The parameters of a convolution.
    pub(super) fn holds_filter(&self, c_out: usize, c_in: usize, kernel: usize) {
        let bytes = match self.on_cpu {
            Some(compute) => Tile::of_filter(compute).times(c_out, c_in, kernel.saturating_mul(kernel)),
            None => product(4, &[c_out, c_in, kernel, kernel]),
        };
        self.add(bytes, bytes);
    }

    fn add(&self, unpacked: u64, mapped: u64) {
        let mut found = self.locked();
        found.unpacked = found.unpacked.saturating_add(unpacked);
        found.mapped = found.mapped.saturating_add(mapped);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The least that a kernel packs parameters into; missing ones are filled up with 0, so that a few narrow rows take more memory
/// than they take in their file.
#[derive(Clone, Copy)]
struct Tile {
    bytes: u64,
    /// Outputs and inputs that fit in it.
    d_out: usize,
    d_in: usize,
}

impl Tile {
    fn of_matrix(compute: Compute, format: Format) -> Self {
        static TILES: [OnceLock<Tile>; 4] = [const { OnceLock::new() }; 4];
        let is_half = [Format::F16, Format::BF16].contains(&format);
        let tile = &TILES[2 * usize::from(compute == Compute::Bf16) + usize::from(is_half)];
        *tile.get_or_init(|| {
            Self::measured(|d_out, d_in| {
                let (floats, halves) = (vec![0.0; d_out * d_in], vec![half::f16::ZERO; d_out * d_in]);
                let values = if is_half { Values::F16(&halves) } else { Values::F32(&floats) };
                PackedMatrix::pack(cpu::isa(), compute, d_out, d_in, values).bytes()
            })
        })
    }

    fn of_filter(compute: Compute) -> Self {
        static TILES: [OnceLock<Tile>; 2] = [const { OnceLock::new() }; 2];
        *TILES[usize::from(compute == Compute::Bf16)].get_or_init(|| {
            Self::measured(|c_out, c_in| {
                let values = vec![0.0; c_out * c_in];
                PackedConv::pack(cpu::isa(), compute, [c_out, c_in, 1], Values::F32(&values)).bytes()
            })
        })
    }

    /// How a kernel packs, by the sizes of what it packs.
    fn measured(bytes: impl Fn(usize, usize) -> usize) -> Self {
        let least = bytes(1, 1);
        let most_in = |grows: &dyn Fn(usize) -> usize| (1..=WIDEST).take_while(|&n| grows(n) == least).count().max(1);
        Self { bytes: least as u64, d_out: most_in(&|n| bytes(n, 1)), d_in: most_in(&|n| bytes(1, n)) }
    }

    fn times(self, d_out: usize, d_in: usize, taps: usize) -> u64 {
        product(self.bytes, &[d_out.div_ceil(self.d_out), d_in.div_ceil(self.d_in), taps])
    }
}

/// No tile is wider.
const WIDEST: usize = 256;

fn product(each: u64, shape: &[usize]) -> u64 {
    shape.iter().fold(each, |n, &d| n.saturating_mul(d as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Device, Residency, Stored, Weight, Weights,
        weights::{Filter, tests::Memory},
    };

    #[test]
    fn what_a_survey_counts_is_what_layers_take() {
        for (rows, columns, kernel) in [(1, 1, 1), (1, 700, 3), (33, 5, 3), (64, 64, 1), (31, 97, 3)] {
            let values = vec![0.5; rows * columns * kernel * kernel];
            let source = Memory::of([
                ("matrix", Stored::of(&values[..rows * columns], vec![rows, columns])),
                ("filter", Stored::of(&values, vec![rows, columns, kernel, kernel])),
                ("vector", Stored::of(&values[..rows], vec![rows])),
            ]);
            for compute in [Compute::F32, Compute::Bf16] {
                // given what a survey counts
                let survey = Survey::of_model_on(Some(compute));
                let seen = Weights::survey(&source, &survey);
                seen.weight("matrix", [rows, columns]).unwrap();
                let [matrix, mapped] = survey.bytes();
                assert_eq!(mapped, 0);
                seen.filter("filter", rows, columns, kernel).unwrap();
                let [with_filter, filter] = survey.bytes();
                assert_eq!(with_filter, matrix + filter);
                seen.vector("vector", rows).unwrap();
                assert_eq!(survey.bytes(), [with_filter + 4 * rows as u64, filter + 4 * rows as u64]);
                // when the same is loaded, then it takes that
                let loaded = Weights::of(&source, &Device::flex(), Residency::Unpacked).computed_in(compute);
                let Weight::Panels(packed) = loaded.weight("matrix", [rows, columns]).unwrap() else { panic!() };
                assert_eq!(packed.bytes() as u64, matrix, "{rows} {columns} {compute:?}");
                let Filter::Panels(packed) = loaded.filter("filter", rows, columns, kernel).unwrap() else { panic!() };
                assert_eq!(packed.bytes() as u64, filter, "{rows} {columns} {kernel} {compute:?}");
            }
        }
    }

    #[test]
    fn a_survey_ends_after_a_hundred_complaints() {
        let (source, survey) = (Memory::of::<String>([]), Survey::default());
        let weights = Weights::survey(&source, &survey);
        let went_on = (0..1000).take_while(|i| weights.vector(&format!("v{i}"), 1).is_ok()).count();
        assert_eq!((went_on, survey.complaints().len()), (Survey::MOST - 1, Survey::MOST - 1));
    }
}
