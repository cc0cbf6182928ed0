//! Weights of three values, and of four-bit floats, operation by operation as the Python package `gguf` makes them.

use super::{
    each, inverse,
    legacy::{from_zero, nibbles},
    put_half,
};
use crate::tables::{E2M1, half_of_e8m0};

pub(super) fn tq1_0(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 54]| {
        let digits = threes(weights, &mut block[52..]);
        for (bytes, at) in [(0..32, 0), (32..48, 160), (48..52, 240)] {
            let wide = bytes.len();
            for (i, byte) in block[bytes].iter_mut().enumerate() {
                let digit = |row: usize| digits.get(at + row * wide + i).copied().unwrap_or(0);
                // Five digits to the base of 3, as a fraction of 256, rounded up.
                let number = (0..5).fold(0u16, |number, row| number * 3 + u16::from(digit(row)));
                *byte = (number * 256).div_ceil(243) as u8;
            }
        }
    });
}

pub(super) fn tq2_0(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 66]| {
        let digits = threes(weights, &mut block[64..]);
        for (row, digits) in digits.as_chunks::<32>().0.iter().enumerate() {
            for (byte, digit) in block[row / 4 * 32..][..32].iter_mut().zip(digits) {
                *byte |= digit << (row % 4 * 2);
            }
        }
    });
}

/// 0, 1 or 2 for each weight, with the scale at `d`.
fn threes(weights: &[f32; 256], d: &mut [u8]) -> [u8; 256] {
    let most = weights.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let id = inverse(most);
    put_half(d, 0, most);
    weights.map(|x| (from_zero(x * id).clamp(-1, 1) + 1).cast_unsigned())
}

pub(super) fn mxfp4(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 17]| {
        let most = weights.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let exponent = if most > 0.0 { (most.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
        // Half of the power of two, as the values are doubled.
        let d = half_of_e8m0(exponent);
        block[0] = exponent;
        let nearest = |x: f32| {
            let off = |i: usize| (d * E2M1[i] - x).abs();
            (1..16).fold(0, |best, i| if off(i) < off(best) { i } else { best }) as u8
        };
        nibbles(weights.map(nearest), &mut block[1..]);
    });
}
