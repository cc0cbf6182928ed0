//! Blocks of 256 weights, whose parts have scales of few bits.

use super::{
    each,
    fit::{self, Line, beside, extreme, level},
    put_half,
};

pub(super) fn q2_k(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 84]| {
        let (d, numbers, levels) = lines::<16, 16>(weights, 3.0, 15.0);
        for (part, [scale, min]) in numbers.into_iter().enumerate() {
            block[part] = scale | min << 4;
            quarters(&mut block[16..80], part, &levels[part * 16..]);
        }
        put_half(block, 80, d[0]);
        put_half(block, 82, d[1]);
    });
}

pub(super) fn q3_k(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 110]| {
        let (d, scales, levels) = scales::<16, 16>(weights, [-4.0, 3.0], [-32.0, 31.0]);
        put_half(block, 108, d);
        for (part, scale) in scales.into_iter().enumerate() {
            let (scale, levels) = ((scale + 32).cast_unsigned(), &levels[part * 16..][..16]);
            // Six bits: four in eight bytes' halves, two in four bytes' quarters.
            block[96 + part % 8] |= (scale & 15) << (part / 8 * 4);
            block[104 + part % 4] |= scale >> 4 << (part / 4 * 2);
            let levels: [u8; 16] = std::array::from_fn(|i| (levels[i] + 4).cast_unsigned());
            quarters(&mut block[32..96], part, &levels.map(|level| level & 3));
            for (byte, level) in block[part % 2 * 16..][..16].iter_mut().zip(levels) {
                *byte |= level >> 2 << (part / 2);
            }
        }
    });
}

pub(super) fn q4_k(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 144]| {
        let (d, numbers, levels) = lines::<32, 8>(weights, 15.0, 63.0);
        put_half(block, 0, d[0]);
        put_half(block, 2, d[1]);
        for (part, numbers) in numbers.into_iter().enumerate() {
            six_bits(&mut block[4..16], part, numbers);
            halves(&mut block[16..], part, &levels[part * 32..]);
        }
    });
}

pub(super) fn q5_k(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 176]| {
        let (d, numbers, levels) = lines::<32, 8>(weights, 31.0, 63.0);
        put_half(block, 0, d[0]);
        put_half(block, 2, d[1]);
        for (part, numbers) in numbers.into_iter().enumerate() {
            let levels: [u8; 32] = std::array::from_fn(|i| levels[part * 32 + i]);
            six_bits(&mut block[4..16], part, numbers);
            halves(&mut block[48..], part, &levels.map(|level| level & 15));
            for (byte, level) in block[16..48].iter_mut().zip(levels) {
                *byte |= level >> 4 << part;
            }
        }
    });
}

pub(super) fn q6_k(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 210]| {
        let (d, scales, levels) = scales::<16, 16>(weights, [-32.0, 31.0], [-128.0, 127.0]);
        put_half(block, 208, d);
        for (part, scale) in scales.into_iter().enumerate() {
            block[192 + part] = scale.cast_unsigned();
            // Each half of the block has four rows of 32, of which the lower bits lie in two.
            let (of, row, side) = (part / 8, part % 8 / 2, part % 2 * 16);
            for (i, level) in levels[part * 16..][..16].iter().enumerate() {
                let level = (level + 32).cast_unsigned();
                block[of * 64 + row % 2 * 32 + side + i] |= (level & 15) << (row / 2 * 4);
                block[128 + of * 32 + side + i] |= level >> 4 << (row * 2);
            }
        }
    });
}

/// The lines of `P` parts of `N` weights: the factors of their scales and minima, these as numbers up to `most`, and the levels,
/// up to `top`, of all weights.
fn lines<const N: usize, const P: usize>(
    weights: &[f32; 256],
    top: f32,
    most: f32,
) -> ([f32; 2], [[u8; 2]; P], [u8; 256]) {
    let parts = weights.as_chunks::<N>().0;
    let found: [Line; P] = std::array::from_fn(|part| fit::line(&parts[part], top));
    let largest = |of: fn(&Line) -> f32| found.iter().map(of).fold(0.0, f32::max);
    let factors = [largest(|line| line.scale), largest(|line| line.min)].map(|largest| as_read(largest / most));
    let inverses = factors.map(super::inverse);
    let mut numbers = [[0; 2]; P];
    let mut levels = [0; 256];
    for (part, Line { scale, min }) in found.into_iter().enumerate() {
        let weights = &parts[part];
        let on = |scale: f32, min: f32| Line { scale: factors[0] * scale, min: factors[1] * min };
        // Zeros are nearer than what is left of a line whose scale is too small for f16.
        let mut best = (fit::loss_on(weights, Line::default(), top), [0.0; 2]);
        for near in [-1.0, 0.0, 1.0] {
            let scale = level(scale * inverses[0], 0.0, most) + near;
            if (0.0..=most).contains(&scale) {
                let lost = |min| fit::loss_on(weights, on(scale, min), top);
                let min = beside(min * inverses[1], [0.0, most], lost);
                if lost(min) < best.0 {
                    best = (lost(min), [scale, min]);
                }
            }
        }
        let Line { scale, min } = on(best.1[0], best.1[1]);
        let inverse = super::inverse(scale);
        numbers[part] = best.1.map(|number| number as u8);
        for (to, x) in levels[part * N..].iter_mut().zip(weights) {
            *to = level((x + min) * inverse, 0.0, top) as u8;
        }
    }
    (factors, numbers, levels)
}

/// The scales of `P` parts of `N` weights around 0: their factor, these as numbers of a range, and the levels of all weights.
fn scales<const N: usize, const P: usize>(
    weights: &[f32; 256],
    ends: [f32; 2],
    range: [f32; 2],
) -> (f32, [i8; P], [i8; 256]) {
    let parts = weights.as_chunks::<N>().0;
    let round = |x: f32| level(x, ends[0], ends[1]);
    let found: [f32; P] = std::array::from_fn(|part| fit::scale(&parts[part], ends, round));
    // The lowest number is one farther from 0 than the highest.
    let factor = as_read(extreme(&found) / range[0]);
    let inverse = super::inverse(factor);
    let mut numbers = [0; P];
    let mut levels = [0; 256];
    for (part, scale) in found.into_iter().enumerate() {
        let weights = &parts[part];
        let number = beside(scale * inverse, range, |number| fit::loss(weights, factor * number, round));
        let inverse = super::inverse(factor * number);
        numbers[part] = number as i8;
        for (to, x) in levels[part * N..].iter_mut().zip(weights) {
            *to = round(x * inverse) as i8;
        }
    }
    (factor, numbers, levels)
}

/// What is left of a factor once it is stored as f16.
pub(super) fn as_read(factor: f32) -> f32 {
    half::f16::from_f32(factor).to_f32()
}

/// Two bits of a part of 16, in one of the quarters of a row of 32 bytes.
fn quarters(bytes: &mut [u8], part: usize, levels: &[u8]) {
    for (byte, level) in bytes[part / 8 * 32 + part % 2 * 16..][..16].iter_mut().zip(levels) {
        *byte |= level << (part % 8 / 2 * 2);
    }
}

/// Four bits of a part of 32, in one of the halves of a row of 32 bytes.
fn halves(bytes: &mut [u8], part: usize, levels: &[u8]) {
    for (byte, level) in bytes[part / 2 * 32..][..32].iter_mut().zip(levels) {
        *byte |= level << (part % 2 * 4);
    }
}

/// Scale and minimum of a part, of eight in twelve bytes: the first four parts have six bits of one byte each, the others four
/// bits here and two there.
fn six_bits(bytes: &mut [u8], part: usize, [scale, min]: [u8; 2]) {
    if part < 4 {
        bytes[part] |= scale;
        bytes[part + 4] |= min;
    } else {
        bytes[part + 4] |= scale & 15 | min << 4;
        bytes[part - 4] |= scale >> 4 << 6;
        bytes[part] |= min >> 4 << 6;
    }
}
