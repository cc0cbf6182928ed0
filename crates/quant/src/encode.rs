//! How weights become blocks: the other direction of [`formats`](crate::formats).
//!
//! The plain formats of blocks (`Q4_0` to `Q8_0`, `TQ1_0`, `TQ2_0`, `MXFP4`) and `BF16` give the bytes that the Python package
//! `gguf` gives. For the others a format says only what blocks mean, and the scales are searched for: by least squares around the
//! scales that the largest weights ask for, and once more around the numbers that are left when the scales are themselves rounded.

mod bnb;
mod fit;
mod fp8;
mod k;
mod legacy;
mod low;
mod uneven;

use core_tensor::Format;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

pub use self::{
    bnb::{BLOCK, FourBits},
    fp8::{EightBits, LARGEST_E4M3, LARGEST_E5M2},
};
use crate::formats as f;

/// Writes whole blocks; `blocks` has room for exactly those of `weights`.
pub type Pack = fn(weights: &[f32], blocks: &mut [u8]);

/// The formats that weights can be written in one after the other, without anything beside them.
pub const WRITTEN: [Format; 18] = [
    Format::F32,
    Format::F16,
    Format::BF16,
    f::Q4_0,
    f::Q4_1,
    f::Q5_0,
    f::Q5_1,
    f::Q8_0,
    f::Q2_K,
    f::Q3_K,
    f::Q4_K,
    f::Q5_K,
    f::Q6_K,
    f::IQ4_NL,
    f::IQ4_XS,
    f::TQ1_0,
    f::TQ2_0,
    f::MXFP4,
];

/// How blocks of a format are made; `None` where they are not.
pub fn pack(format: Format) -> Option<Pack> {
    let packs: [Pack; 18] = [
        f32s,
        f16s,
        bf16s,
        legacy::q4_0,
        legacy::q4_1,
        legacy::q5_0,
        legacy::q5_1,
        legacy::q8_0,
        k::q2_k,
        k::q3_k,
        k::q4_k,
        k::q5_k,
        k::q6_k,
        uneven::iq4_nl,
        uneven::iq4_xs,
        low::tq1_0,
        low::tq2_0,
        low::mxfp4,
    ];
    WRITTEN.iter().position(|known| *known == format).map(|at| packs[at])
}

/// Blocks of so many weights, in parallel; the same for any number of threads. `None` for a format that is not written, and for
/// weights that are no whole number of its blocks.
pub fn packed(format: Format, weights: &[f32]) -> Option<Vec<u8>> {
    /// Weights that are packed by one thread, one after the other: whole blocks of every format.
    const AT_ONCE: usize = 1 << 14;
    let pack = pack(format)?;
    let mut bytes = vec![0; usize::try_from(format.size(weights.len() as u64)?).ok()?];
    let of_part = AT_ONCE / format.weights() * format.bytes();
    bytes.par_chunks_mut(of_part).zip(weights.par_chunks(AT_ONCE)).for_each(|(bytes, weights)| pack(weights, bytes));
    Some(bytes)
}

fn f32s(weights: &[f32], bytes: &mut [u8]) {
    for (bytes, weight) in bytes.as_chunks_mut().0.iter_mut().zip(weights) {
        *bytes = weight.to_le_bytes();
    }
}

fn f16s(weights: &[f32], bytes: &mut [u8]) {
    const AT_ONCE: usize = 256;
    let mut halves = [f16::ZERO; AT_ONCE];
    for (bytes, weights) in bytes.chunks_mut(2 * AT_ONCE).zip(weights.chunks(AT_ONCE)) {
        let halves = &mut halves[..weights.len()];
        halves.convert_from_f32_slice(weights);
        for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
            *bytes = half.to_le_bytes();
        }
    }
}

fn bf16s(weights: &[f32], bytes: &mut [u8]) {
    for (bytes, weight) in bytes.as_chunks_mut().0.iter_mut().zip(weights) {
        *bytes = bf16::from_f32(*weight).to_le_bytes();
    }
}

/// Calls `pack` for each `W` weights and their block of `B` bytes, which are zero.
fn each<const W: usize, const B: usize>(weights: &[f32], blocks: &mut [u8], pack: impl Fn(&[f32; W], &mut [u8; B])) {
    let (weights, blocks) = (weights.as_chunks::<W>().0, blocks.as_chunks_mut::<B>().0);
    weights.iter().zip(blocks).for_each(|(weights, block)| pack(weights, block));
}

/// Puts an f16 at a place of a block, and gives what it is read as.
fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// 1 / d, and 0 where there is none.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_that_is_written_takes_whole_blocks_of_zeros_and_no_others() {
        for format in WRITTEN {
            let zeros = vec![0.0; 3 * format.weights()];
            let blocks = packed(format, &zeros).unwrap();
            assert_eq!(blocks.len(), 3 * format.bytes(), "{format}");
            let mut weights = vec![1.0; zeros.len()];
            format.unpack().unwrap()(&blocks, &mut weights);
            assert!(weights.iter().all(|weight| *weight == 0.0), "{format}: {weights:?}");
            if format.weights() > 1 {
                assert_eq!(packed(format, &zeros[1..]), None, "{format}");
            }
        }
        assert_eq!(packed(f::IQ1_S, &[0.0; 256]), None);
    }
}
