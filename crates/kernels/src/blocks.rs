//! Blocks of quantised weights, unpacked by code that is compiled for this CPU.

use half::f16;

use crate::{
    integers::{GROUP, HALF_GROUP, Integers},
    isa::Isa,
    simd::{Body, MAX_LANES, Simd, vectorize},
};

/// How a block of `B` bytes becomes `W` weights.
///
/// The method has to be `#[inline(always)]`, and so has what it calls: then it becomes vectors of each level. That is why it is no closure
/// and no function, whose calls the compiler leaves alone where they are large, compiled for the least CPU.
pub trait UnpackBlock<const B: usize, const W: usize> {
    /// Writes the weights. What is computed is what is said, so that every level gives the same bits.
    fn unpack(&self, block: &[u8; B], weights: &mut [f32; W]);
}

/// How a block of `B` bytes is read as integers: the codes of `W` weights, and the scales and shifts of their `G` groups.
///
/// The method is compiled as that of [`UnpackBlock`].
pub trait ReadIntegers<const B: usize, const W: usize, const G: usize> {
    /// Writes them; shifts only where there are any.
    fn read(&self, block: &[u8; B], codes: &mut [i16; W], scales: &mut [f32; G], shifts: &mut [f32; G]);
}

/// Numbers of `B` bytes each, by what is small enough to be compiled where it is called.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<F>(pub F);

impl<F: Fn([u8; B]) -> f32, const B: usize> UnpackBlock<B, 1> for Numbers<F> {
    #[inline(always)]
    fn unpack(&self, &block: &[u8; B], weights: &mut [f32; 1]) {
        *weights = [(self.0)(block)];
    }
}

/// Unpacks each block of `B` bytes and its `W` weights, by code that is compiled for `isa`.
pub fn each_block<const B: usize, const W: usize>(
    isa: Isa,
    blocks: &[u8],
    weights: &mut [f32],
    by: impl UnpackBlock<B, W>,
) {
    vectorize(isa, Each { blocks: blocks.as_chunks().0, weights: weights.as_chunks_mut().0, by });
}

struct Each<'a, F, const B: usize, const W: usize> {
    blocks: &'a [[u8; B]],
    weights: &'a mut [[f32; W]],
    by: F,
}

impl<F: UnpackBlock<B, W>, const B: usize, const W: usize> Body for Each<'_, F, B, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (block, weights) in self.blocks.iter().zip(self.weights) {
            self.by.unpack(block, weights);
        }
    }
}

/// Reads each block of `B` bytes as integers, by code that is compiled for `isa`.
pub fn each_integer_block<const B: usize, const W: usize, const G: usize>(
    isa: Isa,
    blocks: &[u8],
    to: Integers,
    by: impl ReadIntegers<B, W, G>,
) {
    const { assert!(W == G * GROUP || W == G * HALF_GROUP) };
    vectorize(isa, EachOfIntegers { blocks: blocks.as_chunks().0, to, by });
}

struct EachOfIntegers<'a, F, const B: usize, const W: usize, const G: usize> {
    blocks: &'a [[u8; B]],
    to: Integers<'a>,
    by: F,
}

impl<F: ReadIntegers<B, W, G>, const B: usize, const W: usize, const G: usize> Body for EachOfIntegers<'_, F, B, W, G> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Integers { codes, scales, shifts } = self.to;
        let scales = scales.as_chunks_mut().0.iter_mut().zip(shifts.as_chunks_mut().0);
        for ((block, codes), (scales, shifts)) in self.blocks.iter().zip(codes.as_chunks_mut().0).zip(scales) {
            self.by.read(block, codes, scales, shifts);
        }
    }
}

/// Hints that bytes will be read soon: those of a row that others are read before.
pub fn read_ahead(isa: Isa, bytes: &[u8]) {
    vectorize(isa, ReadAhead(bytes));
}

struct ReadAhead<'a>(&'a [u8]);

impl Body for ReadAhead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for line in self.0.chunks(64) {
            s.prefetch(line.as_ptr());
        }
    }
}

/// Writes the values of f16, two little-endian bytes each, of which there may be more than places.
pub fn widen_f16(isa: Isa, bytes: &[u8], to: &mut [f32]) {
    vectorize(isa, Widen { bytes, to });
}

struct Widen<'a> {
    bytes: &'a [u8],
    to: &'a mut [f32],
}

impl Body for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (to, rest) = self.to.as_chunks_mut::<MAX_LANES>();
        let (bytes, last) = self.bytes.split_at(self.bytes.len().min(2 * MAX_LANES * to.len()));
        for (to, bytes) in to.iter_mut().zip(bytes.as_chunks::<{ 2 * MAX_LANES }>().0) {
            // SAFETY: as many bytes as these halves take are read from an array of them; any bits are a half.
            let halves = unsafe { bytes.as_ptr().cast::<[f16; MAX_LANES]>().read_unaligned() };
            #[cfg(target_endian = "big")]
            let halves = halves.map(|half| f16::from_bits(half.to_bits().swap_bytes()));
            for at in (0..MAX_LANES).step_by(S::LANES) {
                // SAFETY: the vector from `at` on lies in `halves`, whose length is a multiple of every vector's.
                let v = unsafe { s.load_f16_ptr(halves[at..].as_ptr()) };
                s.store(&mut to[at..], v);
            }
        }
        for (to, &bytes) in rest.iter_mut().zip(last.as_chunks().0) {
            *to = f16::from_le_bytes(bytes).to_f32();
        }
    }
}

/// Writes the value of a table that each number chooses by its lower four bits.
///
/// # Panics
/// If there are not as many numbers as places.
pub fn choose(isa: Isa, table: &[f32; 16], numbers: &[u8], to: &mut [f32]) {
    assert_eq!(numbers.len(), to.len(), "a place for each number");
    vectorize(isa, Choose { table, numbers, to });
}

struct Choose<'a> {
    table: &'a [f32; 16],
    numbers: &'a [u8],
    to: &'a mut [f32],
}

impl Body for Choose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { table, numbers, to } = self;
        let (to, rest) = to.as_chunks_mut::<16>();
        let (numbers, last) = numbers.as_chunks::<16>();
        for (to, numbers) in to.iter_mut().zip(numbers) {
            s.choose(table, numbers, to);
        }
        for (to, number) in rest.iter_mut().zip(last) {
            *to = table[usize::from(number & 15)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_chooses_by_its_lower_four_bits_at_every_level() {
        let table: [f32; 16] = std::array::from_fn(|i| i as f32 * 1.5 - 7.0);
        let numbers: Vec<u8> = (0..=255).chain([3, 19, 255]).collect();
        for isa in Isa::available() {
            for count in [0, 1, 15, 16, 17, numbers.len()] {
                let mut found = vec![f32::NAN; count];
                choose(isa, &table, &numbers[..count], &mut found);
                let expected: Vec<f32> = numbers[..count].iter().map(|n| table[usize::from(n & 15)]).collect();
                assert_eq!(found, expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn every_half_becomes_its_value_at_any_address_and_of_any_count() {
        let bytes: Vec<u8> = [0].into_iter().chain((0..=u16::MAX).flat_map(u16::to_le_bytes)).collect();
        for isa in Isa::available() {
            for count in [0, 1, 15, 16, 33, 1 << 16] {
                let mut found = vec![f32::NAN; count];
                widen_f16(isa, &bytes[1..], &mut found);
                for (bits, found) in (0..).zip(&found) {
                    let expected = f16::from_bits(bits).to_f32();
                    assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:x}");
                }
            }
        }
    }

    struct Two;

    impl UnpackBlock<2, 3> for Two {
        #[inline(always)]
        fn unpack(&self, block: &[u8; 2], weights: &mut [f32; 3]) {
            *weights = [f32::from(block[0]), f32::from(block[1]), 0.5];
        }
    }

    #[test]
    fn blocks_are_unpacked_one_by_one_and_what_is_no_whole_block_is_left() {
        for isa in Isa::available() {
            let mut weights = [9.0; 7];
            each_block(isa, &[1, 2, 3, 4, 5], &mut weights, Two);
            assert_eq!(weights, [1.0, 2.0, 0.5, 3.0, 4.0, 0.5, 9.0], "{isa:?}");
        }
    }
}
