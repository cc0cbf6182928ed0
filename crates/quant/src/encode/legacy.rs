//! Blocks of 32 weights with one scale, operation by operation as the Python package `gguf` makes them.

use super::{each, inverse, put_half};

pub(super) fn q4_0(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 18]| {
        let d = extreme(weights) / -8.0;
        let id = inverse(d);
        put_half(block, 0, d);
        nibbles(weights.map(|x| ((x * id + 8.5) as u8).min(15)), &mut block[2..]);
    });
}

pub(super) fn q4_1(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 20]| {
        let (min, d) = range(weights, 15.0);
        let id = inverse(d);
        put_half(block, 0, d);
        put_half(block, 2, min);
        nibbles(weights.map(|x| (((x - min) * id + 0.5) as u8).min(15)), &mut block[4..]);
    });
}

pub(super) fn q5_0(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 22]| {
        let d = extreme(weights) / -16.0;
        let id = inverse(d);
        put_half(block, 0, d);
        five_bits(weights.map(|x| ((x * id + 16.5) as u8).min(31)), &mut block[2..]);
    });
}

pub(super) fn q5_1(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 24]| {
        let (min, d) = range(weights, 31.0);
        let id = inverse(d);
        put_half(block, 0, d);
        put_half(block, 2, min);
        five_bits(weights.map(|x| (((x - min) * id + 0.5) as u8).min(31)), &mut block[4..]);
    });
}

pub(super) fn q8_0(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 34]| {
        let d = extreme(weights).abs() / 127.0;
        let id = inverse(d);
        put_half(block, 0, d);
        for (byte, x) in block[2..].iter_mut().zip(weights) {
            *byte = from_zero(x * id).cast_unsigned();
        }
    });
}

/// The nearest integer, of two as near the one farther from zero.
pub(super) fn from_zero(x: f32) -> i8 {
    let below = x.abs() as i32;
    let above = (2.0 * (x.abs() - below as f32)) as i32;
    let nearest = below.saturating_add(above).min(i32::from(i8::MAX)) as i8;
    if x < 0.0 { -nearest } else { nearest }
}

/// The first of the weights that are largest without their sign.
fn extreme(weights: &[f32; 32]) -> f32 {
    weights.iter().fold(weights[0], |most, x| if x.abs() > most.abs() { *x } else { most })
}

/// The least weight, and so many equal steps to the largest.
fn range(weights: &[f32; 32], steps: f32) -> (f32, f32) {
    let min = weights.iter().fold(f32::INFINITY, |min, x| x.min(min));
    let max = weights.iter().fold(f32::NEG_INFINITY, |max, x| x.max(max));
    (min, (max - min) / steps)
}

/// The first 16 in the lower halves of bytes, the others in the upper ones.
pub(super) fn nibbles(q: [u8; 32], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = q[i] & 15 | q[i + 16] << 4;
    }
}

/// Four bits of each as [`nibbles`], behind the fifth of all.
fn five_bits(q: [u8; 32], bytes: &mut [u8]) {
    let fifth = q.iter().enumerate().fold(0u32, |bits, (i, q)| bits | u32::from(q >> 4) << i);
    bytes[..4].copy_from_slice(&fifth.to_le_bytes());
    nibbles(q, &mut bytes[4..]);
}

#[cfg(test)]
mod tests {
    use super::from_zero;

    #[test]
    fn halves_are_rounded_from_zero_and_what_is_nearly_one_is_not() {
        let cases = [(0.5, 1), (-0.5, -1), (1.5, 2), (0.499_999_97, 0), (-126.7, -127), (1e9, 127), (f32::NAN, 0)];
        for (x, expected) in cases {
            assert_eq!(from_zero(x), expected, "{x}");
        }
    }
}
