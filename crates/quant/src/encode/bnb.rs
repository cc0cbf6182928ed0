//! Four bits as bitsandbytes packs them: blocks whose weights are divided by the largest, and numbers in a table.
//!
//! Reference: `quantize_4bit` of bitsandbytes 0.50.

use core_tensor::Format;
use rayon::prelude::*;

use crate::{
    decoded::{FP4, NF4},
    tables::{FP4_VALUES, NF4_VALUES},
};

/// Weights that have a scale together.
pub const BLOCK: usize = 64;

/// A table of 16 values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FourBits {
    /// Quantiles of the normal distribution.
    Nf4,
    /// Floats.
    Fp4,
}

impl FourBits {
    /// As bitsandbytes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }

    /// The format of its numbers, as they are read.
    pub fn format(self) -> Format {
        match self {
            Self::Nf4 => NF4,
            Self::Fp4 => FP4,
        }
    }

    /// The values of the table.
    pub fn values(self) -> [f32; 16] {
        match self {
            Self::Nf4 => NF4_VALUES,
            Self::Fp4 => FP4_VALUES,
        }
    }

    /// Two weights in a byte, the first one in its upper half, and the scale of each [`BLOCK`]. The last block may be shorter.
    pub fn packed(self, weights: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let table = Table::of(self.values());
        let mut bytes = vec![0; weights.len().div_ceil(2)];
        let mut scales = vec![0.0; weights.len().div_ceil(BLOCK)];
        let blocks = bytes.par_chunks_mut(BLOCK / 2).zip(&mut scales).zip(weights.par_chunks(BLOCK));
        blocks.for_each(|((bytes, scale), weights)| *scale = table.pack(weights, bytes));
        (bytes, scales)
    }
}

/// The smallest number that a block is divided by.
const LEAST: f32 = 1e-38;

/// A table in ascending order.
struct Table {
    /// Where each value stands in the table.
    numbers: [u8; 16],
    /// Halfway between each two.
    bounds: [f32; 15],
}

impl Table {
    fn of(values: [f32; 16]) -> Self {
        let mut numbers: [u8; 16] = std::array::from_fn(|i| i as u8);
        let value = |i: u8| values[usize::from(i)];
        numbers.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
        let bounds = std::array::from_fn(|i| (value(numbers[i]) + value(numbers[i + 1])) / 2.0);
        Self { numbers, bounds }
    }

    /// Packs a block, and gives its scale.
    fn pack(&self, weights: &[f32], bytes: &mut [u8]) -> f32 {
        let most = weights.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let is_whole = weights.len() == BLOCK;
        let (divisor, scale) = (most.max(LEAST), if is_whole { most } else { most.max(LEAST) });
        let inverse = 1.0 / divisor;
        let number = |x: &f32| {
            let scaled = if is_whole { x * inverse } else { x / divisor }.clamp(-1.0, 1.0);
            self.numbers[self.bounds.iter().filter(|bound| scaled > **bound).count()]
        };
        // What fills up the last byte is a zero.
        for (byte, pair) in bytes.iter_mut().zip(weights.chunks(2)) {
            *byte = number(&pair[0]) << 4 | number(pair.get(1).unwrap_or(&0.0));
        }
        scale
    }
}
