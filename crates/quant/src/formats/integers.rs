//! Weights as the integers that they are in their blocks: `scale · code + shift`, of which the products of integers are made.
//!
//! In ggml's own order of operations the same numbers would be rounded in other places; so these are near what the blocks unpack to, and
//! not the same to the last bit.

use core_tensor::IntegerForm;
use kernels::{GROUP, HALF_GROUP, Isa, ReadIntegers, each_integer_block};

use super::{
    half,
    k::{fives, fours, scale_of_threes, scales_and_minima, sixes, threes, twos},
    legacy::nibbles,
    u16_at, u32_at,
};
use crate::tables::{E2M1, UNEVEN, half_of_e4m3, half_of_e8m0};

macro_rules! forms {
    ($($name:ident = $weights:literal in $bytes:literal by $group:ident, $least:literal to $most:literal, $has_shifts:literal, $read:path;)*) => {
        $(pub(crate) const $name: IntegerForm = IntegerForm {
            read: |blocks, to| {
                const GROUPS: usize = $weights / $group;
                struct Blocks;
                impl ReadIntegers<$bytes, $weights, GROUPS> for Blocks {
                    #[inline(always)]
                    fn read(
                        &self,
                        block: &[u8; $bytes],
                        codes: &mut [i16; $weights],
                        scales: &mut [f32; GROUPS],
                        shifts: &mut [f32; GROUPS],
                    ) {
                        $read(block, codes, scales, shifts);
                    }
                }
                each_integer_block(Isa::best(), blocks, to, Blocks);
            },
            group: $group,
            has_shifts: $has_shifts,
            least: $least,
            most: $most,
        };)*
    };
}

forms! {
    Q4_0 = 32 in 18 by GROUP, -8 to 7, false, q4_0;
    Q4_1 = 32 in 20 by GROUP, 0 to 15, true, q4_1;
    Q5_0 = 32 in 22 by GROUP, -16 to 15, false, q5_0;
    Q5_1 = 32 in 24 by GROUP, 0 to 31, true, q5_1;
    Q8_0 = 32 in 34 by GROUP, -128 to 127, false, q8_0;
    IQ4_NL = 32 in 18 by GROUP, -127 to 113, false, iq4_nl;
    Q2_K = 256 in 84 by HALF_GROUP, 0 to 3, true, q2_k;
    Q3_K = 256 in 110 by HALF_GROUP, -4 to 3, false, q3_k;
    Q4_K = 256 in 144 by GROUP, 0 to 15, true, q4_k;
    Q5_K = 256 in 176 by GROUP, 0 to 31, true, q5_k;
    Q6_K = 256 in 210 by HALF_GROUP, -32 to 31, false, q6_k;
    Q8_K = 256 in 292 by GROUP, -128 to 127, false, q8_k;
    IQ4_XS = 256 in 136 by GROUP, -127 to 113, false, iq4_xs;
    TQ2_0 = 256 in 66 by GROUP, -1 to 2, false, tq2_0;
    MXFP4 = 32 in 17 by GROUP, -12 to 12, false, mxfp4;
    NVFP4 = 64 in 36 by HALF_GROUP, -12 to 12, false, nvfp4;
}

type One = [f32; 1];
type Four = [f32; 4];
type Eight = [f32; 8];
type Sixteen = [f32; 16];

#[inline(always)]
fn q4_0(block: &[u8; 18], codes: &mut [i16; 32], scale: &mut One, _: &mut One) {
    *scale = [half(block, 0)];
    *codes = nibbles(&block[2..]).map(|q| i16::from(q) - 8);
}

#[inline(always)]
fn q4_1(block: &[u8; 20], codes: &mut [i16; 32], scale: &mut One, shift: &mut One) {
    (*scale, *shift) = ([half(block, 0)], [half(block, 2)]);
    *codes = nibbles(&block[4..]).map(i16::from);
}

#[inline(always)]
fn q5_0(block: &[u8; 22], codes: &mut [i16; 32], scale: &mut One, _: &mut One) {
    let fifth = u32_at(block, 2);
    *scale = [half(block, 0)];
    for (i, (code, q)) in codes.iter_mut().zip(nibbles(&block[6..])).enumerate() {
        *code = i16::from(q) + ((fifth >> i & 1) << 4) as i16 - 16;
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], codes: &mut [i16; 32], scale: &mut One, shift: &mut One) {
    let fifth = u32_at(block, 4);
    (*scale, *shift) = ([half(block, 0)], [half(block, 2)]);
    for (i, (code, q)) in codes.iter_mut().zip(nibbles(&block[8..])).enumerate() {
        *code = i16::from(q) + ((fifth >> i & 1) << 4) as i16;
    }
}

#[inline(always)]
fn q8_0(block: &[u8; 34], codes: &mut [i16; 32], scale: &mut One, _: &mut One) {
    *scale = [half(block, 0)];
    for (code, &q) in codes.iter_mut().zip(&block[2..]) {
        *code = i16::from(q.cast_signed());
    }
}

#[inline(always)]
fn iq4_nl(block: &[u8; 18], codes: &mut [i16; 32], scale: &mut One, _: &mut One) {
    *scale = [half(block, 0)];
    *codes = nibbles(&block[2..]).map(|q| STEPS[usize::from(q)]);
}

/// What numbers are above the least of them.
#[inline(always)]
fn above(least: i16, numbers: [u8; 256], codes: &mut [i16; 256]) {
    for (code, number) in codes.iter_mut().zip(numbers) {
        *code = i16::from(number) + least;
    }
}

#[inline(always)]
fn q2_k(block: &[u8; 84], codes: &mut [i16; 256], scales: &mut Sixteen, shifts: &mut Sixteen) {
    let (d, dmin) = (half(block, 80), half(block, 82));
    for part in 0..16 {
        scales[part] = d * f32::from(block[part] & 15);
        shifts[part] = -(dmin * f32::from(block[part] >> 4));
    }
    above(0, twos(&block[16..80]), codes);
}

#[inline(always)]
fn q3_k(block: &[u8; 110], codes: &mut [i16; 256], scales: &mut Sixteen, _: &mut Sixteen) {
    let d = half(block, 108);
    for (part, scale) in scales.iter_mut().enumerate() {
        *scale = d * scale_of_threes(block, part);
    }
    above(-4, threes(block), codes);
}

#[inline(always)]
fn q4_k(block: &[u8; 144], codes: &mut [i16; 256], scales: &mut Eight, shifts: &mut Eight) {
    scales_and_shifts(block, scales, shifts);
    above(0, fours(&block[16..]), codes);
}

#[inline(always)]
fn q5_k(block: &[u8; 176], codes: &mut [i16; 256], scales: &mut Eight, shifts: &mut Eight) {
    scales_and_shifts(block, scales, shifts);
    above(0, fives(block), codes);
}

/// Those of the parts of `Q4_K` and `Q5_K`.
#[inline(always)]
fn scales_and_shifts(block: &[u8], scales: &mut Eight, shifts: &mut Eight) {
    let minima;
    [*scales, minima] = scales_and_minima(block);
    *shifts = minima.map(|minimum| -minimum);
}

#[inline(always)]
fn q6_k(block: &[u8; 210], codes: &mut [i16; 256], to: &mut Sixteen, _: &mut Sixteen) {
    let d = half(block, 208);
    for (to, scale) in to.iter_mut().zip(&block[192..208]) {
        *to = d * f32::from(scale.cast_signed());
    }
    above(-32, sixes(block), codes);
}

#[inline(always)]
fn q8_k(block: &[u8; 292], codes: &mut [i16; 256], scales: &mut Eight, _: &mut Eight) {
    *scales = [f32::from_le_bytes([block[0], block[1], block[2], block[3]]); 8];
    for (code, &q) in codes.iter_mut().zip(&block[4..260]) {
        *code = i16::from(q.cast_signed());
    }
}

#[inline(always)]
fn iq4_xs(block: &[u8; 136], codes: &mut [i16; 256], scales: &mut Eight, _: &mut Eight) {
    let (d, top, low, quants) = (half(block, 0), u16_at(block, 2), &block[4..8], &block[8..]);
    for (part, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = low[part / 2] >> (part % 2 * 4) & 15 | ((top >> (part * 2) & 3) << 4) as u8;
        scales[part] = d * (f32::from(scale) - 32.0);
        *codes = nibbles(&quants[part * 16..]).map(|q| STEPS[usize::from(q)]);
    }
}

#[inline(always)]
fn tq2_0(block: &[u8; 66], codes: &mut [i16; 256], scales: &mut Eight, _: &mut Eight) {
    *scales = [half(block, 64); 8];
    above(-1, twos(&block[..64]), codes);
}

#[inline(always)]
fn mxfp4(block: &[u8; 17], codes: &mut [i16; 32], scale: &mut One, _: &mut One) {
    *scale = [half_of_e8m0(block[0])];
    *codes = nibbles(&block[1..]).map(|q| FLOATS[usize::from(q)]);
}

#[inline(always)]
fn nvfp4(block: &[u8; 36], codes: &mut [i16; 64], scales: &mut Four, _: &mut Four) {
    for (part, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        scales[part] = half_of_e4m3(block[part]);
        let (lower, upper) = codes.split_at_mut(8);
        for ((&byte, lower), upper) in block[4 + part * 8..].iter().zip(lower).zip(upper) {
            (*lower, *upper) = (FLOATS[usize::from(byte & 15)], FLOATS[usize::from(byte >> 4)]);
        }
    }
}

/// [`UNEVEN`] as integers.
const STEPS: [i16; 16] = integers(&UNEVEN);

/// Twice the floats of four bits, as [`E2M1`] has them.
const FLOATS: [i16; 16] = integers(&E2M1);

const fn integers(values: &[f32; 16]) -> [i16; 16] {
    let mut integers = [0; 16];
    let mut i = 0;
    while i < 16 {
        integers[i] = values[i] as i16;
        i += 1;
    }
    integers
}
