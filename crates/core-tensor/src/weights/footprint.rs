//! The memory that parameters take once they are packed.

use std::sync::OnceLock;

use kernels::{Compute, PackedConv, PackedMatrix, Values};

use super::{Format, Stored};
use crate::{Device, Place, cpu, cuda, gpu, packing::Packing};

impl Place {
    /// Of layers on a device that are multiplied in a number format.
    pub fn of(device: &Device, compute: Compute) -> Self {
        match device {
            device if cpu::is(device) => Self::Cpu(compute),
            device if gpu::has_kernels(device) => Self::Device(compute),
            _ => Self::Other,
        }
    }
}

/// What layers hold of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Where all of it is in memory: unpacked, but for what is multiplied as it is stored.
    pub unpacked: u64,
    /// What of that is held as it is stored.
    pub as_stored: u64,
    /// Where what inputs are multiplied with stays in its file.
    pub mapped: u64,
    /// What is brought to a device at a time of what stays in its file: room for the largest of it three times, as the next are brought
    /// while one is computed with. Nothing on the CPU, whose kernels read the file.
    pub passing: u64,
    /// What a device unpacks at a time of what it holds as it is stored: room for the largest matrix of that.
    pub unpacking: u64,
}

impl Footprint {
    /// What takes the same in any case.
    pub(super) fn fixed(bytes: u64) -> Self {
        Self { unpacked: bytes, mapped: bytes, ..Self::default() }
    }

    /// Of what takes memory only where it is unpacked.
    pub(super) fn either(bytes: u64, at: Place) -> Self {
        let passing = match at {
            Place::Cpu(_) => 0,
            Place::Device(_) | Place::Other => bytes.saturating_mul(cuda::SLOTS as u64),
        };
        Self { unpacked: bytes, passing, ..Self::default() }
    }

    /// Of a matrix `[d_out, d_in]` of a format. `stored` is the matrix itself, where more than its format says how it is held.
    pub(super) fn of_matrix(format: Format, at: Place, shape: [usize; 2], stored: Option<&Stored>) -> Self {
        let [d_out, d_in] = shape;
        match (bytes_as_stored(format, at, shape, stored), at) {
            (Some(bytes), Place::Cpu(_)) => Self { as_stored: bytes, ..Self::either(bytes, at) },
            (Some(bytes), Place::Device(_) | Place::Other) => {
                let unpacking = product(width(at), &shape);
                Self { as_stored: bytes, unpacking, ..Self::either(bytes, at) }
            }
            (None, Place::Cpu(compute)) => Self::either(Tile::of_matrix(compute, format).times(d_out, d_in, 1), at),
            (None, Place::Device(_) | Place::Other) => Self::either(product(width(at), &shape), at),
        }
    }

    /// Of a convolution's parameters `[c_out, c_in, kernel, kernel]` of a format.
    pub(super) fn of_convolution(format: Format, at: Place, [c_out, c_in, kernel]: [usize; 3]) -> Self {
        let area = kernel.saturating_mul(kernel);
        match at {
            Place::Cpu(compute) => Self::either(Tile::of_convolution(compute).times(c_out, c_in, area), at),
            // Channels are filled up to what a kernel reads at once.
            Place::Device(_) => {
                let filled = c_in.checked_next_multiple_of(8).unwrap_or(c_in);
                Self::either(product(width(at), &[c_out, filled, area]), at)
            }
            Place::Other => Self::of_matrix(format, at, [c_out, c_in.saturating_mul(area)], None),
        }
    }

    /// Of both, which pass through the same memory of a device.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            unpacked: self.unpacked.saturating_add(other.unpacked),
            as_stored: self.as_stored.saturating_add(other.as_stored),
            mapped: self.mapped.saturating_add(other.mapped),
            passing: self.passing.max(other.passing),
            unpacking: self.unpacking.max(other.unpacking),
        }
    }
}

/// Bytes of a number where it is unpacked on a device.
fn width(at: Place) -> u64 {
    match at {
        Place::Device(Compute::Bf16 | Compute::F16) => 2,
        Place::Cpu(_) | Place::Device(Compute::F32 | Compute::Tf32 | Compute::Integers) | Place::Other => 4,
    }
}

/// Bytes of f32.
pub(super) fn floats(shape: &[usize]) -> u64 {
    product(4, shape)
}

/// Bytes of a matrix that is held as it is stored; `None` where it is unpacked.
fn bytes_as_stored(format: Format, at: Place, shape: [usize; 2], stored: Option<&Stored>) -> Option<u64> {
    match at {
        Place::Cpu(Compute::F32 | Compute::Tf32 | Compute::Bf16 | Compute::F16) => None,
        Place::Cpu(Compute::Integers) => {
            let form = stored.map_or_else(|| format.integers_in_rows_of(shape[1]), Stored::integers);
            form.map(|_| format.size_of(&shape).unwrap_or(u64::MAX))
        }
        Place::Device(_) | Place::Other => {
            let packing = stored.map_or_else(|| Packing::of(format, shape, at), |stored| stored.packing(at));
            packing.map(|packing| packing.bytes() as u64)
        }
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
        let tile = &TILES[2 * usize::from(compute.is_in_pairs(cpu::isa())) + usize::from(is_half)];
        *tile.get_or_init(|| {
            Self::measured(|d_out, d_in| {
                let (floats, halves) = (vec![0.0; d_out * d_in], vec![half::f16::ZERO; d_out * d_in]);
                let values = if is_half { Values::F16(&halves) } else { Values::F32(&floats) };
                PackedMatrix::pack(cpu::isa(), compute, d_out, d_in, values).bytes()
            })
        })
    }

    fn of_convolution(compute: Compute) -> Self {
        static TILES: [OnceLock<Tile>; 2] = [const { OnceLock::new() }; 2];
        *TILES[usize::from(compute.is_in_pairs(cpu::isa()))].get_or_init(|| {
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
    use std::sync::Arc;

    use super::*;
    use crate::{
        Layout, Residency, Round, Runs, Scaling, Stored, Weights,
        weights::{
            Matrix, Parameters,
            tests::{FOURS, Memory},
        },
    };

    #[test]
    fn what_has_room_is_unpacked_in_an_even_mixture_and_the_rest_stays_in_its_file() {
        let values = vec![0.5; 640 * 64];
        let matrix = || Stored::of(&values, vec![640, 64]);
        let source = Memory::of([
            ("first.weight", matrix()),
            ("second.weight", matrix()),
            ("filter.weight", Stored::of(&values[..8 * 8 * 9], vec![8, 8, 3, 3])),
            ("both.weight", matrix()),
        ]);
        let layout = || {
            Layout::of(|l| {
                l.unbiased("first", 64, 640);
                l.unbiased("second", 64, 640);
                l.unbiased_convolution("filter", 8, 8, 3);
                l.stacked("both", 64, &[480, 160]);
            })
        };
        let at = Place::Cpu(Compute::F32);
        let [whole, part] = [640, 160].map(|rows| Footprint::of_matrix(Format::F32, at, [rows, 64], None).unpacked);
        let filter = Footprint::of_convolution(Format::F32, at, [8, 8, 3]).unpacked;
        let all = 3 * whole + filter;
        let held = |bytes: u64| {
            let w = Weights::of(&source, &Device::flex(), Residency::UpTo { bytes, of: all }).laid_out(layout());
            let is_mapped = |m: &crate::Weight<Matrix>| matches!(m.alone(), Some(Matrix::Mapped(_)));
            let [first, second] = ["first.weight", "second.weight"].map(|name| is_mapped(&w.matrix(name).unwrap()));
            let filter = w.convolution("filter.weight").unwrap();
            let filter = matches!(filter.alone().map(|c| &c.parameters), Some(Parameters::Mapped(_)));
            let [upper, lower] = w.matrices("both.weight").unwrap().map(|m| is_mapped(&m));
            [first, second, filter, upper, lower]
        };
        assert_eq!(held(0), [true; 5]);
        assert_eq!(held(whole + filter), [true, false, true, true, true]);
        assert_eq!(held(whole + filter + part), [true, false, true, true, false]);
        assert_eq!(held(all), [false; 5]);
    }

    /// Scales of runs of so many weights, or of none that lie one after the other.
    #[derive(Debug)]
    struct Each(Option<usize>);

    impl Scaling for Each {
        fn scale(&self, _: usize, _: &mut [f32]) {}

        fn runs(&self, _: usize) -> Option<Runs> {
            self.0.map(|weights| Runs { weights, round: Round::No })
        }
    }

    #[test]
    fn what_a_device_holds_of_a_scaled_matrix_is_counted_by_its_own_scales() {
        let stored = |run: Option<usize>, [rows, width]: [usize; 2]| {
            let bytes = vec![0; rows * width / 2];
            Stored::of_bytes(FOURS, vec![rows, width], bytes).unwrap().scaled(Arc::new(Each(run)))
        };
        let at = Place::Device(Compute::Bf16);
        // The format's table, half a byte for each weight, and four for each scale.
        let packed = |weights: u64, scales: u64| Some(4 * 16 + weights / 2 + 4 * scales);
        for (run, heights, width, expected) in [
            (Some(8), &[6usize][..], 16, packed(96, 12)),
            // Shorter runs have more scales.
            (Some(4), &[6], 16, packed(96, 24)),
            // The last run is cut, runs are too short to be read, or there are none.
            (Some(64), &[5], 16, None),
            (Some(2), &[6], 16, None),
            (None, &[6], 16, None),
            // Where matrices that are stored as one are cut, so is a run.
            (Some(32), &[2, 4], 16, packed(32, 1).zip(packed(64, 2)).map(|(a, b)| a + b)),
            (Some(32), &[3, 5], 16, None),
        ] {
            let height: usize = heights.iter().sum();
            let matrix = stored(run, [height, width]);
            let parts = super::super::layout::parts(heights).map(|rows| matrix.rows(rows).unwrap());
            let held = parts.map(|part| part.packing(at).map(|packing| packing.bytes() as u64)).sum::<Option<u64>>();
            assert_eq!(held, expected, "{run:?} {heights:?}");
            // what is counted from the source is what is held
            let source = Memory::of([("m.weight", matrix), ("m.bias", Stored::of(&vec![0.0; height], vec![height]))]);
            let layout = Layout::of(|l| l.stacked("m", width, heights));
            let w = Weights::of(&source, &Device::flex(), Residency::Unpacked).laid_out(layout);
            let (found, biases) = (w.bytes(at), 4 * height as u64);
            assert_eq!(found.unpacked - biases, expected.unwrap_or(2 * (height * width) as u64), "{run:?} {heights:?}");
            assert_eq!((found.as_stored, found.unpacking > 0), (expected.unwrap_or(0), expected.is_some()));
        }
    }

    #[test]
    fn what_a_layout_counts_is_what_layers_take() {
        for (rows, columns, kernel) in [(1, 1, 1), (1, 700, 3), (33, 5, 3), (64, 64, 1), (31, 97, 3)] {
            let values = vec![0.5; rows * columns * kernel * kernel];
            let source = Memory::of([
                ("matrix.weight", Stored::of(&values[..rows * columns], vec![rows, columns])),
                ("filter.weight", Stored::of(&values, vec![rows, columns, kernel, kernel])),
                ("filter.bias", Stored::of(&values[..rows], vec![rows])),
            ]);
            let matrix = || Layout::of(|l| l.unbiased("matrix", columns, rows));
            let filter = || Layout::of(|l| l.convolution("filter", columns, rows, kernel));
            for compute in [Compute::F32, Compute::Bf16] {
                let w = Weights::of(&source, &Device::flex(), Residency::Unpacked).computed_in(compute);
                let (matrix, filter) = (w.laid_out(matrix()), w.laid_out(filter()));
                let Some(Matrix::Panels(packed)) = matrix.matrix("matrix.weight").unwrap().alone().cloned() else {
                    panic!()
                };
                let expected = Footprint { unpacked: packed.bytes() as u64, ..Footprint::default() };
                assert_eq!(matrix.bytes(Place::Cpu(compute)), expected, "{rows} {columns} {compute:?}");
                let convolution = filter.convolution("filter.weight").unwrap();
                let Some(Parameters::Panels(packed)) = convolution.alone().map(|c| &c.parameters) else { panic!() };
                let bias = 4 * rows as u64;
                let unpacked = packed.bytes() as u64 + bias;
                let expected = Footprint { unpacked, mapped: bias, ..Footprint::default() };
                assert_eq!(filter.bytes(Place::Cpu(compute)), expected, "{rows} {columns} {kernel}");
                let bytes = if compute == Compute::F32 { 4 } else { 2 } * (rows * columns) as u64;
                let expected = Footprint { unpacked: bytes, passing: 3 * bytes, ..Footprint::default() };
                assert_eq!(matrix.bytes(Place::Device(compute)), expected);
            }
        }
    }
}
