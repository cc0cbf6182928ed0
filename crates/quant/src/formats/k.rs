//! Blocks of 256 weights, whose parts have scales of few bits.

use super::{from_bit, half, u16_at};
use crate::tables::UNEVEN;

/// Numbers of two bits: of each 32 bytes the lowest of all, then the next.
#[inline(always)]
pub(super) fn twos(bytes: &[u8]) -> [u8; 256] {
    let mut numbers = [0; 256];
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        *numbers = from_bit(row_of(bytes, row / 4), row % 4 * 2, 3);
    }
    numbers
}

/// Numbers of four bits: of each 32 bytes the lower halves, then the upper ones.
#[inline(always)]
pub(super) fn fours(bytes: &[u8]) -> [u8; 256] {
    let mut numbers = [0; 256];
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        *numbers = from_bit(row_of(bytes, row / 2), row % 2 * 4, 15);
    }
    numbers
}

/// The numbers of `Q3_K`, 4 above what they are.
#[inline(always)]
pub(super) fn threes(block: &[u8; 110]) -> [u8; 256] {
    let mut numbers = twos(&block[32..96]);
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        join(numbers, from_bit(row_of(block, 0), row, 1), 2);
    }
    numbers
}

/// The numbers of `Q5_K`.
#[inline(always)]
pub(super) fn fives(block: &[u8; 176]) -> [u8; 256] {
    let mut numbers = fours(&block[48..]);
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        join(numbers, from_bit(row_of(&block[16..], 0), row, 1), 4);
    }
    numbers
}

/// The numbers of `Q6_K`, 32 above what they are. Each half of the block has four rows of 32, of which the lower bits lie in two.
#[inline(always)]
pub(super) fn sixes(block: &[u8; 210]) -> [u8; 256] {
    let (low, high) = (&block[..128], &block[128..192]);
    let mut numbers = [0; 256];
    for (row, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, row) = (row / 4, row % 4);
        *numbers = from_bit(row_of(low, half * 2 + row % 2), row / 2 * 4, 15);
        join(numbers, from_bit(row_of(high, half), row * 2, 3), 4);
    }
    numbers
}

/// Puts bits above those that are there.
#[inline(always)]
fn join(numbers: &mut [u8; 32], bits: [u8; 32], above: usize) {
    for (number, bit) in numbers.iter_mut().zip(bits) {
        *number |= bit << above;
    }
}

#[inline(always)]
fn row_of(bytes: &[u8], row: usize) -> &[u8; 32] {
    &bytes.as_chunks().0[row]
}

/// The six bits of the scales of `Q3_K`: four of eight bytes' halves, two of four bytes' quarters.
#[inline(always)]
pub(super) fn scale_of_threes(block: &[u8; 110], part: usize) -> f32 {
    let scales = &block[96..108];
    let (low, top) = (scales[part % 8] >> (part / 8 * 4) & 15, scales[8 + part % 4] >> (part / 4 * 2) & 3);
    f32::from(low | top << 4) - 32.0
}

#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], weights: &mut [f32; 256]) {
    let (d, dmin, numbers) = (half(block, 80), half(block, 82), twos(&block[16..80]));
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(block[part] & 15), dmin * f32::from(block[part] >> 4));
        for (weight, &q) in weights.iter_mut().zip(&numbers[part * 16..][..16]) {
            *weight = scale * f32::from(q) - min;
        }
    }
}

#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], weights: &mut [f32; 256]) {
    let (d, numbers) = (half(block, 108), threes(block));
    for (part, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * scale_of_threes(block, part);
        for (weight, &q) in weights.iter_mut().zip(&numbers[part * 16..][..16]) {
            *weight = scale * (f32::from(q) - 4.0);
        }
    }
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], weights: &mut [f32; 256]) {
    above_minima(block, fours(&block[16..]), weights);
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], weights: &mut [f32; 256]) {
    above_minima(block, fives(block), weights);
}

/// Scaled numbers above the minima of their parts, with the scales of `Q4_K` and `Q5_K`.
#[inline(always)]
fn above_minima(block: &[u8], numbers: [u8; 256], weights: &mut [f32; 256]) {
    let [scales, minima] = scales_and_minima(block);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (weight, &q) in weights.iter_mut().zip(&numbers[part * 32..][..32]) {
            *weight = scales[part] * f32::from(q) - minima[part];
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], weights: &mut [f32; 256]) {
    let (scales, d, numbers) = (&block[192..208], half(block, 208), sixes(block));
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

/// Those of the parts of `Q4_K` and `Q5_K`.
#[inline(always)]
pub(super) fn scales_and_minima(block: &[u8]) -> [[f32; 8]; 2] {
    let (d, dmin, [scales, mins]) = (half(block, 0), half(block, 2), six_bits(&block[4..16]));
    let mut scaled = [[0.0; 8]; 2];
    for part in 0..8 {
        scaled[0][part] = d * f32::from(scales[part]);
        scaled[1][part] = dmin * f32::from(mins[part]);
    }
    scaled
}

/// Scales and minima of eight parts, in twelve bytes: the first four parts have six bits of one byte each, the others four bits here and two
/// there.
#[inline(always)]
fn six_bits(bytes: &[u8]) -> [[u8; 8]; 2] {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for part in 0..4 {
        let [first, second, third] = [bytes[part], bytes[part + 4], bytes[part + 8]];
        (scales[part], mins[part]) = (first & 63, second & 63);
        (scales[part + 4], mins[part + 4]) = (third & 15 | first >> 6 << 4, third >> 4 | second >> 6 << 4);
    }
    [scales, mins]
}
