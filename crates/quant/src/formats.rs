//! The block formats of ggml: how many weights lie in how many bytes, and how they become f32.
//!
//! Every formula is that of ggml's reference (`ggml-quants.c`) and of its twin in Python (`gguf.quants`), operation by operation,
//! so that each value is the same to the last bit.

mod codebook;
pub(crate) mod integers;
mod k;
mod legacy;
mod low;

use core_tensor::{BitForm, BlockFormat, Format, IntegerForm, Unpack};
use half::f16;
use kernels::Isa;

use crate::bits;

/// A format of blocks.
struct Packed {
    name: &'static str,
    weights: usize,
    bytes: usize,
    unpack: Unpack,
    integers: Option<IntegerForm>,
    bits: Option<BitForm>,
}

impl BlockFormat for Packed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weights(&self) -> usize {
        self.weights
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn unpack(&self) -> Option<Unpack> {
        Some(self.unpack)
    }

    fn integers(&self) -> Option<IntegerForm> {
        self.integers
    }

    fn bits(&self) -> Option<BitForm> {
        self.bits
    }
}

macro_rules! formats {
    ($($(#[$about:meta])* $name:ident = $weights:literal in $bytes:literal, $unpack:path $(, integers $integers:path)? $(, bits $bits:path)?;)*) => {
        $($(#[$about])*
        pub const $name: Format =
            Format(&Packed {
                name: stringify!($name),
                weights: $weights,
                bytes: $bytes,
                unpack: |blocks, weights| {
                    struct Blocks;
                    impl kernels::UnpackBlock<$bytes, $weights> for Blocks {
                        #[inline(always)]
                        fn unpack(&self, block: &[u8; $bytes], weights: &mut [f32; $weights]) {
                            $unpack(block, weights);
                        }
                    }
                    kernels::each_block(Isa::best(), blocks, weights, Blocks);
                },
                integers: [$(Some($integers),)? None][0],
                bits: [$(Some($bits),)? None][0],
            });)*

        /// Every format of blocks that ggml stores weights in.
        pub const BLOCK_FORMATS: &[Format] = &[$($name),*];
    };
}

formats! {
    /// Four bits around 0, and a scale for 32.
    Q4_0 = 32 in 18, legacy::q4_0, integers integers::Q4_0, bits bits::Q4_0;
    /// Four bits above a minimum, and a scale for 32.
    Q4_1 = 32 in 20, legacy::q4_1, integers integers::Q4_1, bits bits::Q4_1;
    /// Five bits around 0, and a scale for 32.
    Q5_0 = 32 in 22, legacy::q5_0, integers integers::Q5_0, bits bits::Q5_0;
    /// Five bits above a minimum, and a scale for 32.
    Q5_1 = 32 in 24, legacy::q5_1, integers integers::Q5_1, bits bits::Q5_1;
    /// Eight bits, and a scale for 32.
    Q8_0 = 32 in 34, legacy::q8_0, integers integers::Q8_0, bits bits::Q8_0;
    /// Two bits above a minimum: scales and minima of four bits for 16, and two factors for 256.
    Q2_K = 256 in 84, k::q2_k, integers integers::Q2_K, bits bits::Q2_K;
    /// Three bits around 0: scales of six bits for 16, and a factor for 256.
    Q3_K = 256 in 110, k::q3_k, integers integers::Q3_K, bits bits::Q3_K;
    /// Four bits above a minimum: scales and minima of six bits for 32, and two factors for 256.
    Q4_K = 256 in 144, k::q4_k, integers integers::Q4_K, bits bits::Q4_K;
    /// Five bits above a minimum, with scales as those of `Q4_K`.
    Q5_K = 256 in 176, k::q5_k, integers integers::Q5_K, bits bits::Q5_K;
    /// Six bits around 0: scales of eight bits for 16, and a factor for 256.
    Q6_K = 256 in 210, k::q6_k, integers integers::Q6_K, bits bits::Q6_K;
    /// Eight bits, and a scale of f32 for 256.
    Q8_K = 256 in 292, k::q8_k, integers integers::Q8_K, bits bits::Q8_K;
    /// One of 256 words for eight weights; signs of seven bits, and scales of four bits for 32.
    IQ2_XXS = 256 in 66, codebook::iq2_xxs;
    /// One of 512 words for eight weights; signs of seven bits, and scales of four bits for 16.
    IQ2_XS = 256 in 74, codebook::iq2_xs;
    /// One of 256 words for four weights; signs of seven bits, and scales of four bits for 32.
    IQ3_XXS = 256 in 98, codebook::iq3_xxs;
    /// One of 2,048 words of -1, 0 and 1 for eight weights, shifted; scales of three bits for 32.
    IQ1_S = 256 in 50, codebook::iq1_s;
    /// Four bits that choose one of 16 uneven steps, and a scale for 32.
    IQ4_NL = 32 in 18, legacy::iq4_nl, integers integers::IQ4_NL, bits bits::IQ4_NL;
    /// One of 512 words for four weights; signs of a bit each, and scales of four bits for 32.
    IQ3_S = 256 in 110, codebook::iq3_s;
    /// One of 1,024 words for eight weights; signs of a bit each, and scales of four bits for 16.
    IQ2_S = 256 in 82, codebook::iq2_s;
    /// The steps of `IQ4_NL`: scales of six bits for 32, and a factor for 256.
    IQ4_XS = 256 in 136, k::iq4_xs, integers integers::IQ4_XS, bits bits::IQ4_XS;
    /// The words of `IQ1_S`, shifted for each eight weights; scales of three bits for 16.
    IQ1_M = 256 in 56, codebook::iq1_m;
    /// -1, 0 and 1, five of them in a byte, and a scale for 256.
    TQ1_0 = 256 in 54, low::tq1_0;
    /// -1, 0 and 1 in two bits, and a scale for 256.
    TQ2_0 = 256 in 66, low::tq2_0, integers integers::TQ2_0, bits bits::TQ2_0;
    /// Floats of four bits, and a power of two for 32.
    MXFP4 = 32 in 17, low::mxfp4, integers integers::MXFP4, bits bits::MXFP4;
    /// Floats of four bits, and floats of eight bits as scales for 16, four of them together.
    NVFP4 = 64 in 36, low::nvfp4, integers integers::NVFP4, bits bits::NVFP4;
}

/// The bits of a mask from one on, of each byte; all of them are its own. Eight bytes are shifted together, as vectors shift no bytes.
#[inline(always)]
fn from_bit<const N: usize>(bytes: &[u8; N], bit: usize, mask: u8) -> [u8; N] {
    debug_assert!(u32::from(mask) << bit <= 255);
    let mut bits = [0; N];
    for (to, from) in bits.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        *to = (u64::from_le_bytes(*from) >> bit & u64::from_le_bytes([mask; 8])).to_le_bytes();
    }
    bits
}

/// The f16 at a place of a block.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The unsigned 16 bits at a place of a block.
#[inline(always)]
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The unsigned 32 bits at a place of a block.
#[inline(always)]
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats_apart() {
        for (i, format) in BLOCK_FORMATS.iter().enumerate() {
            assert!(BLOCK_FORMATS[..i].iter().all(|other| other != format), "{format}");
            assert!(format.is_float() && format.weights().is_multiple_of(32), "{format}");
        }
    }
}
