//! Blocks of 32 weights with one scale.

use super::{half, u32_at};
use crate::tables::UNEVEN;

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], weights: &mut [f32; 32]) {
    let (d, numbers) = (half(block, 0), nibbles(&block[2..]));
    for (weight, q) in weights.iter_mut().zip(numbers) {
        *weight = d * (f32::from(q) - 8.0);
    }
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], weights: &mut [f32; 32]) {
    let (d, m, numbers) = (half(block, 0), half(block, 2), nibbles(&block[4..]));
    for (weight, q) in weights.iter_mut().zip(numbers) {
        *weight = d * f32::from(q) + m;
    }
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], weights: &mut [f32; 32]) {
    let (d, fifth, numbers) = (half(block, 0), u32_at(block, 2), nibbles(&block[6..]));
    for (i, (weight, q)) in weights.iter_mut().zip(numbers).enumerate() {
        *weight = d * (f32::from(q) + above(fifth, i) - 16.0);
    }
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], weights: &mut [f32; 32]) {
    let (d, m, fifth, numbers) = (half(block, 0), half(block, 2), u32_at(block, 4), nibbles(&block[8..]));
    for (i, (weight, q)) in weights.iter_mut().zip(numbers).enumerate() {
        *weight = d * (f32::from(q) + above(fifth, i)) + m;
    }
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], weights: &mut [f32; 32]) {
    let d = half(block, 0);
    for (weight, &q) in weights.iter_mut().zip(&block[2..]) {
        *weight = f32::from(q.cast_signed()) * d;
    }
}

#[inline(always)]
pub(super) fn iq4_nl(block: &[u8; 18], weights: &mut [f32; 32]) {
    let (d, numbers) = (half(block, 0), nibbles(&block[2..]));
    for (weight, q) in weights.iter_mut().zip(numbers) {
        *weight = d * UNEVEN[usize::from(q)];
    }
}

/// Of 16 bytes the lower halves, then the upper ones.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut numbers = [0; 32];
    let (lower, upper) = numbers.split_at_mut(16);
    for ((&byte, lower), upper) in bytes[..16].iter().zip(lower).zip(upper) {
        *lower = byte & 15;
        *upper = byte >> 4;
    }
    numbers
}

/// What a fifth bit adds to the other four.
#[inline(always)]
fn above(fifth: u32, i: usize) -> f32 {
    ((fifth >> i & 1) << 4) as f32
}
