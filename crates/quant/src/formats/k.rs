//! Blocks of 256 weights, whose parts have scales of few bits.

use super::{from_bit, half, u16_at};
use crate::tables::UNEVEN;

#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], weights: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(block, 80), half(block, 82));
    let mut numbers = [0; 256];
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (number, &q) in numbers.iter_mut().zip(&quants[row / 4 * 32..][..32]) {
            *number = (from_bit(q, row % 4 * 2) & 3) as u8;
        }
    }
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[part] & 15), dmin * f32::from(scales[part] >> 4));
        for (weight, &q) in weights.iter_mut().zip(&numbers[part * 16..][..16]) {
            *weight = scale * f32::from(q) - min;
        }
    }
}

#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], weights: &mut [f32; 256]) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // Six bits: four of eight bytes' halves, two of four bytes' quarters.
        let (low, top) = (scales[part % 8] >> (part / 8 * 4) & 15, scales[8 + part % 4] >> (part / 4 * 2) & 3);
        let scale = d * (f32::from(low | top << 4) - 32.0);
        let (side, shift) = (part % 2 * 16, part % 8 / 2 * 2);
        let (quants, high) = (&quants[part / 8 * 32 + side..][..16], &high[side..][..16]);
        for ((weight, &q), &h) in weights.iter_mut().zip(quants).zip(high) {
            let number = from_bit(q, shift) & 3 | (from_bit(h, part / 2) & 1) << 2;
            *weight = scale * (f32::from(number) - 4.0);
        }
    }
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], weights: &mut [f32; 256]) {
    let (d, dmin, quants) = (half(block, 0), half(block, 2), &block[16..]);
    let [scales, mins] = six_bits(&block[4..16]);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min, shift) = (d * f32::from(scales[part]), dmin * f32::from(mins[part]), part % 2 * 4);
        for (weight, &q) in weights.iter_mut().zip(&quants[part / 2 * 32..][..32]) {
            *weight = scale * f32::from(from_bit(q, shift) & 15) - min;
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], weights: &mut [f32; 256]) {
    let (d, dmin, high, quants) = (half(block, 0), half(block, 2), &block[16..48], &block[48..]);
    let [scales, mins] = six_bits(&block[4..16]);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min, shift) = (d * f32::from(scales[part]), dmin * f32::from(mins[part]), part % 2 * 4);
        for ((weight, &q), &h) in weights.iter_mut().zip(&quants[part / 2 * 32..][..32]).zip(high) {
            *weight = scale * f32::from(from_bit(q, shift) & 15 | (from_bit(h, part) & 1) << 4) - min;
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], weights: &mut [f32; 256]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    let mut numbers = [0; 256];
    // Each half of the block has four rows of 32, of which the lower bits lie in two.
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (of, row) = (row / 4, row % 4);
        let (low, high) = (&low[of * 64 + row % 2 * 32..][..32], &high[of * 32..][..32]);
        for ((number, &l), &h) in numbers.iter_mut().zip(low).zip(high) {
            *number = (from_bit(l, row / 2 * 4) & 15 | (from_bit(h, row * 2) & 3) << 4) as u8;
        }
    }
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[part].cast_signed());
        for (weight, &q) in weights.iter_mut().zip(&numbers[part * 16..][..16]) {
            *weight = scale * (f32::from(q) - 32.0);
        }
    }
}

/// Behind the weights stand sums of them, which nothing but a product of integers needs.
#[inline(always)]
pub(super) fn q8_k(block: &[u8; 292], weights: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (weight, &q) in weights.iter_mut().zip(&block[4..260]) {
        *weight = d * f32::from(q.cast_signed());
    }
}

#[inline(always)]
pub(super) fn iq4_xs(block: &[u8; 136], weights: &mut [f32; 256]) {
    let (d, top, low, quants) = (half(block, 0), u16_at(block, 2), &block[4..8], &block[8..]);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = low[part / 2] >> (part % 2 * 4) & 15 | ((top >> (part * 2) & 3) << 4) as u8;
        let scale = d * (f32::from(scale) - 32.0);
        let (lower, upper) = weights.split_at_mut(16);
        for ((&q, lower), upper) in quants[part * 16..][..16].iter().zip(lower).zip(upper) {
            *lower = scale * UNEVEN[usize::from(q & 15)];
            *upper = scale * UNEVEN[usize::from(q >> 4)];
        }
    }
}

/// Scales and minima of eight parts, in twelve bytes: the first four parts have six bits of one byte each, the others four bits here and two
/// there.
#[inline(always)]
pub(super) fn six_bits(bytes: &[u8]) -> [[u8; 8]; 2] {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for part in 0..4 {
        let [first, second, third] = [bytes[part], bytes[part + 4], bytes[part + 8]];
        (scales[part], mins[part]) = (first & 63, second & 63);
        (scales[part + 4], mins[part + 4]) = (third & 15 | first >> 6 << 4, third >> 4 | second >> 6 << 4);
    }
    [scales, mins]
}
