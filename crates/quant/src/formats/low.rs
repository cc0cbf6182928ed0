//! Weights of three values, and of four-bit floats.

use super::{half, k::twos};
use crate::tables::{E2M1, half_of_e4m3, half_of_e8m0};

#[inline(always)]
pub(super) fn tq1_0(block: &[u8; 54], weights: &mut [f32; 256]) {
    let d = half(block, 52);
    let (first, rest) = weights.split_at_mut(160);
    let (second, third) = rest.split_at_mut(80);
    for (bytes, weights) in [(&block[..32], first), (&block[32..48], second), (&block[48..52], third)] {
        for (power, weights) in [1, 3, 9, 27, 81].into_iter().zip(weights.chunks_mut(bytes.len())) {
            for (weight, &byte) in weights.iter_mut().zip(bytes) {
                // The byte is a fraction of 256, of which this is one digit to the base of 3.
                let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                *weight = d * (f32::from(digit) - 1.0);
            }
        }
    }
}

#[inline(always)]
pub(super) fn tq2_0(block: &[u8; 66], weights: &mut [f32; 256]) {
    let d = half(block, 64);
    for (weight, q) in weights.iter_mut().zip(twos(&block[..64])) {
        *weight = d * (f32::from(q) - 1.0);
    }
}

#[inline(always)]
pub(super) fn mxfp4(block: &[u8; 17], weights: &mut [f32; 32]) {
    four_bits(half_of_e8m0(block[0]), &block[1..], weights);
}

#[inline(always)]
pub(super) fn nvfp4(block: &[u8; 36], weights: &mut [f32; 64]) {
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        four_bits(half_of_e4m3(block[part]), &block[4 + part * 8..][..8], weights);
    }
}

/// Of bytes the lower halves, then the upper ones.
#[inline(always)]
fn four_bits(d: f32, bytes: &[u8], weights: &mut [f32]) {
    let (lower, upper) = weights.split_at_mut(bytes.len());
    for ((&byte, lower), upper) in bytes.iter().zip(lower).zip(upper) {
        *lower = d * E2M1[usize::from(byte & 15)];
        *upper = d * E2M1[usize::from(byte >> 4)];
    }
}
