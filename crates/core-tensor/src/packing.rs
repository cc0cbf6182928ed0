//! Packed weights as they lie in a device's memory.

use rayon::prelude::*;

use crate::{
    bits::{Beside, BitForm, Round, Runs},
    format::Format,
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
        Some(Self { form, weights, bytes, scaled: None })
    }

    /// Numbers of the tables, which come first.
    pub(crate) fn table_words(&self) -> usize {
        self.form.tables().iter().map(|table| table.len()).sum()
    }
}

impl Packing {
    /// How a matrix of a format and a shape lies there without scales; `None` where it is unpacked before.
    pub(crate) fn of(format: Format, shape: [usize; 2]) -> Option<Self> {
        let reading = Reading::of(format).filter(|_| is_taken(format, shape))?;
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

    /// The same where nothing is known but the format: with as many scales as are usual.
    pub(crate) fn usual_bytes(&self) -> usize {
        let runs = match self.reading.form.beside {
            Beside::Nothing => return self.bytes(),
            Beside::Rows => self.shape[1],
            Beside::Each(weights) => weights,
        };
        self.scaled(Runs { weights: runs, round: Round::No }).unwrap_or(*self).bytes()
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
