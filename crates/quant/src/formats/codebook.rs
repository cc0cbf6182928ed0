//! Weights that are chosen several at a time, from tables of words.

use std::sync::LazyLock;

use super::{half, u16_at, u32_at};

#[inline(always)]
pub(super) fn iq2_xxs(block: &[u8; 66], weights: &mut [f32; 256]) {
    let words = &TABLES.iq2_xxs;
    let d = half(block, 0);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (indices, signs) = (&block[2 + part * 8..][..4], u32_at(block, 6 + part * 8));
        let scale = d * (0.5 + (signs >> 28) as f32) * 0.25;
        for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            signed(scale, &words[usize::from(indices[i])], paired(signs >> (7 * i)), weights);
        }
    }
}

#[inline(always)]
pub(super) fn iq2_xs(block: &[u8; 74], weights: &mut [f32; 256]) {
    let words = &TABLES.iq2_xs;
    let (d, scales) = (half(block, 0), &block[66..]);
    for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let index = u16_at(block, 2 + i * 2);
        let scale = d * (0.5 + four(scales, i / 2)) * 0.25;
        signed(scale, &words[usize::from(index & 511)], paired(u32::from(index >> 9)), weights);
    }
}

#[inline(always)]
pub(super) fn iq2_s(block: &[u8; 82], weights: &mut [f32; 256]) {
    let words = &TABLES.iq2_s;
    let (d, low, signs, high, scales) = (half(block, 0), &block[2..34], &block[34..66], &block[66..74], &block[74..]);
    for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let index = usize::from(low[i]) | usize::from(high[i / 4] >> (i % 4 * 2) & 3) << 8;
        signed(d * (0.5 + four(scales, i / 2)) * 0.25, &words[index], signs[i], weights);
    }
}

#[inline(always)]
pub(super) fn iq3_xxs(block: &[u8; 98], weights: &mut [f32; 256]) {
    let words = &TABLES.iq3_xxs;
    let (d, indices) = (half(block, 0), &block[2..66]);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let signs = u32_at(block, 66 + part * 4);
        let scale = d * (0.5 + (signs >> 28) as f32) * 0.5;
        for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let [first, second] = [0, 1].map(|side| &words[usize::from(indices[part * 8 + i * 2 + side])]);
            signed(scale, &joined(first, second), paired(signs >> (7 * i)), weights);
        }
    }
}

#[inline(always)]
pub(super) fn iq3_s(block: &[u8; 110], weights: &mut [f32; 256]) {
    let words = &TABLES.iq3_s;
    let (d, low, high, signs, scales) = (half(block, 0), &block[2..66], &block[66..74], &block[74..106], &block[106..]);
    for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = |at: usize| &words[usize::from(low[at]) | usize::from(high[at / 8] >> (at % 8) & 1) << 8];
        let scale = d * (1.0 + 2.0 * four(scales, i / 4));
        signed(scale, &joined(word(i * 2), word(i * 2 + 1)), signs[i], weights);
    }
}

/// How far the words of one bit lie beside whole numbers (ggml, `IQ1S_DELTA`).
const SHIFT: f32 = 0.125;

#[inline(always)]
pub(super) fn iq1_s(block: &[u8; 50], weights: &mut [f32; 256]) {
    let words = &TABLES.iq1_s;
    let (d, low) = (half(block, 0), &block[2..34]);
    for (part, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let high = u16_at(block, 34 + part * 2);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let shift = if high & 0x8000 == 0 { SHIFT } else { -SHIFT };
        for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let index = usize::from(low[part * 4 + i]) | usize::from(high >> (3 * i) & 7) << 8;
            shifted(scale, &words[index], shift, weights);
        }
    }
}

/// The scale of the block is an f16 of which each of four numbers has four bits, above its own scales.
#[inline(always)]
pub(super) fn iq1_m(block: &[u8; 56], weights: &mut [f32; 256]) {
    let words = &TABLES.iq1_s;
    let (low, high) = (&block[..32], &block[32..48]);
    let scales = [0, 1, 2, 3].map(|i| u16_at(block, 48 + i * 2));
    let d = scales.iter().enumerate().fold(0, |d, (i, scales)| d | scales >> 12 << (4 * i));
    let d = half::f16::from_bits(d).to_f32();
    for (i, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (scales[i / 8] >> (i / 2 % 4 * 3) & 7) + 1);
        let high = high[i / 2] >> (i % 2 * 4);
        let shift = if high & 8 == 0 { SHIFT } else { -SHIFT };
        shifted(scale, &words[usize::from(low[i]) | usize::from(high & 7) << 8], shift, weights);
    }
}

/// One of many numbers of four bits.
#[inline(always)]
fn four(bytes: &[u8], i: usize) -> f32 {
    f32::from(bytes[i / 2] >> (i % 2 * 4) & 15)
}

/// Eight signs of seven bits: the eighth makes their number even.
#[inline(always)]
fn paired(bits: u32) -> u8 {
    let seven = bits as u8 & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

#[inline(always)]
fn joined(first: &[f32; 4], second: &[f32; 4]) -> [f32; 8] {
    std::array::from_fn(|i| if i < 4 { first[i] } else { second[i - 4] })
}

#[inline(always)]
fn signed(scale: f32, word: &[f32; 8], signs: u8, weights: &mut [f32; 8]) {
    for (i, (weight, value)) in weights.iter_mut().zip(word).enumerate() {
        *weight = scale * value * if signs >> i & 1 == 0 { 1.0 } else { -1.0 };
    }
}

#[inline(always)]
fn shifted(scale: f32, word: &[f32; 8], shift: f32, weights: &mut [f32; 8]) {
    for (weight, value) in weights.iter_mut().zip(word) {
        *weight = scale * (value + shift);
    }
}

/// The words, unpacked when they are first needed.
struct Tables {
    iq2_xxs: Vec<[f32; 8]>,
    iq2_xs: Vec<[f32; 8]>,
    iq2_s: Vec<[f32; 8]>,
    iq3_xxs: Vec<[f32; 4]>,
    iq3_s: Vec<[f32; 4]>,
    iq1_s: Vec<[f32; 8]>,
}

/// Which words there are: four bits for each value, the earlier one lower, a number in the table's list of values. They come from
/// ggml, by way of the Python package `gguf` 0.19 (MIT), as `fixtures/reference/gguf_blocks.py` writes them.
static WORDS: &[u8] = include_bytes!("codebook/words.bin");

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let two = [8.0, 25.0, 43.0];
    let (iq2_xxs, rest) = words(WORDS, 256, &two);
    let (iq2_xs, rest) = words(rest, 512, &two);
    let (iq2_s, rest) = words(rest, 1024, &two);
    let (iq3_xxs, rest) = words(rest, 256, &[4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0]);
    let (iq3_s, rest) = words(rest, 512, &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0]);
    let (iq1_s, _) = words(rest, 2048, &[-1.0, 0.0, 1.0]);
    Tables { iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s, iq1_s }
});

/// The first `count` words, and what lies behind them.
fn words<'b, const N: usize>(bytes: &'b [u8], count: usize, values: &[f32]) -> (Vec<[f32; N]>, &'b [u8]) {
    let (own, rest) = bytes.split_at(count * N / 2);
    let word = |word: &[u8]| std::array::from_fn(|i| values[usize::from(word[i / 2] >> (i % 2 * 4) & 15)]);
    (own.chunks(N / 2).map(word).collect(), rest)
}
