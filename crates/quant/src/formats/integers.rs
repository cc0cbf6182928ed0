//! Weights as the integers that they are in their blocks: `scale · code + shift`, of which the products of integers are made.
//!
//! In ggml's own order of operations the same numbers would be rounded in other places; so these are near what the blocks unpack to, and
//! not the same to the last bit.

use core_tensor::IntegerForm;
use kernels::{Isa, each_integer_block};

use super::{half, k::six_bits, legacy::nibbles, u16_at, u32_at};
use crate::tables::UNEVEN;

macro_rules! forms {
    ($($name:ident = $weights:literal in $bytes:literal, $least:literal to $most:literal, $has_shifts:literal, $read:path;)*) => {
        $(pub(crate) const $name: IntegerForm = IntegerForm {
            read: |blocks, to| each_integer_block::<$bytes, $weights, { $weights / kernels::GROUP }>(Isa::best(), blocks, to, $read),
            has_shifts: $has_shifts,
            least: $least,
            most: $most,
        };)*
    };
}

forms! {
    Q4_0 = 32 in 18, -8 to 7, false, q4_0;
    Q4_1 = 32 in 20, 0 to 15, true, q4_1;
    Q5_0 = 32 in 22, -16 to 15, false, q5_0;
    Q5_1 = 32 in 24, 0 to 31, true, q5_1;
    Q8_0 = 32 in 34, -128 to 127, false, q8_0;
    IQ4_NL = 32 in 18, -127 to 113, false, iq4_nl;
    Q3_K = 256 in 110, -124 to 128, false, q3_k;
    Q4_K = 256 in 144, 0 to 15, true, q4_k;
    Q5_K = 256 in 176, 0 to 31, true, q5_k;
    Q6_K = 256 in 210, -4096 to 4096, false, q6_k;
    Q8_K = 256 in 292, -128 to 127, false, q8_k;
    IQ4_XS = 256 in 136, -127 to 113, false, iq4_xs;
}

type One = [f32; 1];
type Eight = [f32; 8];

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

/// The scales of its parts of 16 are integers, too.
#[inline(always)]
fn q3_k(block: &[u8; 110], codes: &mut [i16; 256], to: &mut Eight, _: &mut Eight) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    *to = [half(block, 108); 8];
    for (part, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (low, top) = (scales[part % 8] >> (part / 8 * 4) & 15, scales[8 + part % 4] >> (part / 4 * 2) & 3);
        let scale = i16::from(low | top << 4) - 32;
        let (side, shift) = (part % 2 * 16, part % 8 / 2 * 2);
        let (quants, high) = (&quants[part / 8 * 32 + side..][..16], &high[side..][..16]);
        for ((code, &q), &h) in codes.iter_mut().zip(quants).zip(high) {
            let above = i16::from(h >> (part / 2) & 1) << 2;
            *code = scale * (i16::from(q >> shift & 3) + above - 4);
        }
    }
}

#[inline(always)]
fn q4_k(block: &[u8; 144], codes: &mut [i16; 256], scales: &mut Eight, shifts: &mut Eight) {
    let (d, dmin, quants) = (half(block, 0), half(block, 2), &block[16..]);
    for (part, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [scale, min] = six_bits(&block[4..16], part);
        (scales[part], shifts[part]) = (d * scale, -(dmin * min));
        for (code, &q) in codes.iter_mut().zip(&quants[part / 2 * 32..][..32]) {
            *code = i16::from(q >> (part % 2 * 4) & 15);
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], codes: &mut [i16; 256], scales: &mut Eight, shifts: &mut Eight) {
    let (d, dmin, high, quants) = (half(block, 0), half(block, 2), &block[16..48], &block[48..]);
    for (part, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [scale, min] = six_bits(&block[4..16], part);
        (scales[part], shifts[part]) = (d * scale, -(dmin * min));
        for ((code, &q), &h) in codes.iter_mut().zip(&quants[part / 2 * 32..][..32]).zip(high) {
            *code = i16::from(q >> (part % 2 * 4) & 15 | (h >> part & 1) << 4);
        }
    }
}

/// The scales of its parts of 16 are integers, too.
#[inline(always)]
fn q6_k(block: &[u8; 210], codes: &mut [i16; 256], to: &mut Eight, _: &mut Eight) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    *to = [half(block, 208); 8];
    for (row, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (of, row) = (row / 4, row % 4);
        let (low, high) = (&low[of * 64 + row % 2 * 32..][..32], &high[of * 32..][..32]);
        for side in 0..2 {
            let scale = i16::from(scales[of * 8 + row * 2 + side].cast_signed());
            let (low, high) = (&low[side * 16..][..16], &high[side * 16..][..16]);
            for ((code, &l), &h) in codes[side * 16..][..16].iter_mut().zip(low).zip(high) {
                *code = scale * (i16::from(l >> (row / 2 * 4) & 15 | (h >> (row * 2) & 3) << 4) - 32);
            }
        }
    }
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

/// [`UNEVEN`] as integers.
const STEPS: [i16; 16] = {
    let mut steps = [0; 16];
    let mut i = 0;
    while i < 16 {
        steps[i] = UNEVEN[i] as i16;
        i += 1;
    }
    steps
};
