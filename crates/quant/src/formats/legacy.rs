//! Blocks of 32 weights with one scale.

use super::{UNEVEN, each, half, u32_at};

pub(super) fn q4_0(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 18], weights: &mut [f32; 32]| {
        let d = half(block, 0);
        nibbles(&block[2..], weights, |q| d * (f32::from(q) - 8.0));
    });
}

pub(super) fn q4_1(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 20], weights: &mut [f32; 32]| {
        let (d, m) = (half(block, 0), half(block, 2));
        nibbles(&block[4..], weights, |q| d * f32::from(q) + m);
    });
}

pub(super) fn q5_0(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 22], weights: &mut [f32; 32]| {
        let (d, fifth) = (half(block, 0), u32_at(block, 2));
        nibbles(&block[6..], weights, f32::from);
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = d * (*weight + above(fifth, i) - 16.0);
        }
    });
}

pub(super) fn q5_1(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 24], weights: &mut [f32; 32]| {
        let (d, m, fifth) = (half(block, 0), half(block, 2), u32_at(block, 4));
        nibbles(&block[8..], weights, f32::from);
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = d * (*weight + above(fifth, i)) + m;
        }
    });
}

pub(super) fn q8_0(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 34], weights: &mut [f32; 32]| {
        let d = half(block, 0);
        for (weight, &q) in weights.iter_mut().zip(&block[2..]) {
            *weight = f32::from(q.cast_signed()) * d;
        }
    });
}

pub(super) fn iq4_nl(blocks: &[u8], weights: &mut [f32]) {
    each(blocks, weights, |block: &[u8; 18], weights: &mut [f32; 32]| {
        let d = half(block, 0);
        nibbles(&block[2..], weights, |q| d * UNEVEN[usize::from(q)]);
    });
}

/// Of 16 bytes the lower halves, then the upper ones.
#[inline(always)]
fn nibbles(bytes: &[u8], weights: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (lower, upper) = weights.split_at_mut(16);
    for ((&byte, lower), upper) in bytes.iter().zip(lower).zip(upper) {
        *lower = value(byte & 15);
        *upper = value(byte >> 4);
    }
}

/// What a fifth bit adds to the other four.
#[inline(always)]
fn above(fifth: u32, i: usize) -> f32 {
    ((fifth >> i & 1) << 4) as f32
}
