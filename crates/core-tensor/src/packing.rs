//! Packed weights as they lie in a device's memory.

use rayon::prelude::*;

use crate::{
    bits::{BitForm, Round, Runs},
    format::Format,
    place::Place,
};

/// Weights that a device unpacks at a time.
pub(crate) const AT_A_TIME: usize = 4;

/// A matrix of packed weights in words of 32 bits: the tables of its format, its blocks, and the scales that lie beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) reading: Reading,
    pub(crate) shape: [usize; 2],
    /// How many weights have a scale in common that lies beside the blocks; 1 where there are none.
    pub(crate) run: usize,
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) form: BitForm,
    /// Weights of a block.
    pub(crate) weights: u32,
    /// Bytes of a block.
    pub(crate) bytes: u32,
    /// Whether there are scales beside the blocks, and what is rounded to after they are applied.
    pub(crate) scaled: Option<Round>,
}

impl Reading {
    /// Of a format's blocks; `None` where it says nothing of its bits. Of blocks of less than a device reads at a time, several are one.
    fn of(format: Format) -> Option<Self> {
        let (form, joined) = (format.bits()?, AT_A_TIME.div_ceil(format.weights()));
        let [weights, bytes] = [format.weights(), format.bytes()].map(|n| (joined * n) as u32);
        // What is read at a time is of one block.
        let is_even = weights.is_multiple_of(AT_A_TIME as u32);
        is_even.then_some(Self { form, weights, bytes, scaled: None })
    }

    /// Numbers of the tables, which come first.
    pub(crate) fn table_words(&self) -> usize {
        self.form.tables().iter().map(|table| table.len()).sum()
    }
}

impl Packing {
    /// How a matrix of a format and a shape lies there without scales; `None` where it is unpacked before.
    pub(crate) fn of(format: Format, shape: [usize; 2], at: Place) -> Option<Self> {
        let reading = Reading::of(format).filter(|_| at.takes(format) && is_taken(format, shape))?;
        Some(Self { reading, shape, run: 1 })
    }

    /// The same with a scale for each run of its weights; `None` where those are too short.
    pub(crate) fn scaled(self, runs: Runs) -> Option<Self> {
        let reading = Reading { scaled: Some(runs.round), ..self.reading };
        runs.weights.is_multiple_of(AT_A_TIME).then_some(Self { reading, run: runs.weights, ..self })
    }

    fn weights(&self) -> usize {
        self.shape.iter().product()
    }

    /// Words that the blocks take.
    fn block_words(&self) -> usize {
        (self.weights() / self.reading.weights as usize * self.reading.bytes as usize).div_ceil(size_of::<u32>())
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        let scales = self.reading.scaled.map_or(0, |_| self.weights() / self.run);
        (self.reading.table_words() + self.block_words() + scales) * size_of::<u32>()
    }

    /// Writes blocks and scales to as many bytes as they take.
    pub(crate) fn write<'b>(&self, blocks: impl Iterator<Item = &'b [u8]>, scales: &[f32], to: &mut [u8]) {
        let (tables, rest) = to.split_at_mut(self.reading.table_words() * size_of::<u32>());
        let (mut left, behind) = rest.split_at_mut(self.block_words() * size_of::<u32>());
        put(&self.reading.form.tables().concat(), tables);
        put(scales, behind);
        for blocks in blocks {
            let (part, rest) = left.split_at_mut(blocks.len());
            part.par_chunks_mut(COPIED).zip(blocks.par_chunks(COPIED)).for_each(|(to, from)| to.copy_from_slice(from));
            left = rest;
        }
        left.fill(0);
    }
}

/// What of a matrix passes through a device's memory.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has few hundred")]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing passes without CUDA"))]
pub(crate) enum Content {
    /// Its weights, in the number format that is computed in.
    Dense([usize; 2]),
    /// What is stored of it, which is unpacked there.
    Packed(Packing),
}

/// Bytes that a thread copies at a time.
const COPIED: usize = 1 << 18;

fn put(numbers: &[f32], to: &mut [u8]) {
    for (to, number) in to.as_chunks_mut().0.iter_mut().zip(numbers) {
        *to = number.to_le_bytes();
    }
}

/// Whether a device takes matrices of a format and such a shape as they are stored: some weights of a row at a time, whose bits and numbers
/// it counts in 32 bits.
fn is_taken(format: Format, shape @ [_, d_in]: [usize; 2]) -> bool {
    const MOST: u64 = 1 << 31;
    let size = format.size_of(&shape).filter(|bytes| (1..MOST).contains(bytes));
    let is_counted = || shape.iter().fold(1, |n: u64, &side| n.saturating_mul(side as u64)) < MOST;
    size.is_some() && is_counted() && d_in.is_multiple_of(AT_A_TIME)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Scaling, Stored,
        weights::tests::{FOURS, Fours},
    };

    const AT: Place = Place::Device(crate::Compute::Bf16);

    /// A scale for each eight weights: the number of the first.
    #[derive(Debug)]
    struct Numbered;

    impl Scaling for Numbered {
        fn scale(&self, _: usize, _: &mut [f32]) {}

        fn runs(&self, _: usize) -> Option<Runs> {
            Some(Runs { weights: 8, round: Round::Bf16 })
        }

        fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
            scales.iter_mut().zip((first..).step_by(run)).for_each(|(scale, first)| *scale = first as f32);
        }
    }

    fn stored(rows: usize, width: usize) -> Stored {
        let bytes = (0..rows * width / 2).map(|i| i as u8).collect();
        Stored::of_bytes(FOURS, vec![rows, width], bytes).unwrap()
    }

    #[test]
    fn blocks_are_packed_whose_weights_a_device_reads_without_crossing_from_one_to_the_next() {
        for (format, is_packed) in [
            (Format(&Fours { bytes: 1 }), true),
            (Format(&Fours { bytes: 2 }), true),
            (Format(&Fours { bytes: 3 }), false),
            (Format(&Fours { bytes: 6 }), true),
        ] {
            let width = 24;
            let stored = Stored::of_bytes(format, vec![2, width], vec![0; width]).unwrap();
            assert_eq!(stored.packing(AT).is_some(), is_packed, "{} weights", format.weights());
        }
    }

    #[test]
    fn tables_blocks_and_scales_lie_one_behind_the_other() {
        // given rows of a scaled matrix, and others of the same below them
        let all = stored(6, 16).scaled(Arc::new(Numbered));
        let stack = Stored::stacked(&[all.rows(3..5).unwrap(), all.rows(1..2).unwrap()]).unwrap();
        // when they are written as a device holds them
        let packing = stack.packing(AT).unwrap();
        assert_eq!((packing.reading.weights, packing.reading.bytes), (4, 2));
        assert_eq!((packing.run, packing.reading.scaled), (8, Some(Round::Bf16)));
        let mut bytes = vec![9; packing.bytes()];
        stack.write_packed(&packing, &mut bytes);
        // then each part is there, and as much of it as was counted
        let (tables, rest) = bytes.split_at(64);
        assert!(tables.as_chunks().0.iter().all(|&bytes| f32::from_le_bytes(bytes) == 1.0));
        let blocks: Vec<u8> = (24..40).chain(8..16).collect();
        assert_eq!(rest[..24], blocks);
        let scales: Vec<f32> = rest[24..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        assert_eq!(scales, [48.0, 56.0, 64.0, 72.0, 16.0, 24.0]);
    }

    #[test]
    fn what_a_device_can_not_count_or_cut_is_unpacked_before() {
        assert!(stored(3, 16).packing(AT).is_some_and(|packing| packing.bytes() == 64 + 24));
        assert_eq!(stored(2, 6).packing(AT), None);
        assert_eq!(Stored::of(&[0.0; 8], vec![2, 4]).packing(AT), None);
        assert_eq!(Packing::of(FOURS, [1 << 20, 1 << 12], AT), None);
        assert_eq!(Packing::of(FOURS, [0, 16], AT), None);
        // A run of scales is cut where a row of 12 begins, and one part of a stack has none.
        let scaled = stored(6, 12).scaled(Arc::new(Numbered));
        assert_eq!(scaled.rows(1..3).unwrap().packing(AT), None);
        assert_eq!(Stored::stacked(&[scaled.rows(0..2).unwrap(), stored(2, 12)]).unwrap().packing(AT), None);
    }
}
