//! Weights that choose one of 16 uneven steps.

use super::{
    each,
    fit::{self, beside, extreme},
    k::as_read,
    legacy::nibbles,
    put_half,
};
use crate::tables::UNEVEN;

const ENDS: [f32; 2] = [UNEVEN[0], UNEVEN[15]];

pub(super) fn iq4_nl(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 32], block: &mut [u8; 18]| {
        let scale = fit::scale(weights, ENDS, step);
        let inverse = super::inverse(put_half(block, 0, scale));
        nibbles(weights.map(|x| number(x * inverse)), &mut block[2..]);
    });
}

pub(super) fn iq4_xs(weights: &[f32], blocks: &mut [u8]) {
    each(weights, blocks, |weights: &[f32; 256], block: &mut [u8; 136]| {
        const NUMBERS: [f32; 2] = [-32.0, 31.0];
        let parts = weights.as_chunks::<32>().0;
        let found: [f32; 8] = std::array::from_fn(|part| fit::scale(&parts[part], ENDS, step));
        let factor = as_read(extreme(&found) / NUMBERS[0]);
        let inverse = super::inverse(factor);
        put_half(block, 0, factor);
        let mut top = 0u16;
        for (part, (weights, scale)) in parts.iter().zip(found).enumerate() {
            let scale = beside(scale * inverse, NUMBERS, |number| fit::loss(weights, factor * number, step));
            let inverse = super::inverse(factor * scale);
            let six = (scale as i8 + 32).cast_unsigned();
            block[4 + part / 2] |= (six & 15) << (part % 2 * 4);
            top |= u16::from(six >> 4) << (part * 2);
            nibbles(weights.map(|x| number(x * inverse)), &mut block[8 + part * 16..][..16]);
        }
        block[2..4].copy_from_slice(&top.to_le_bytes());
    });
}

/// Halfway between each two steps.
const BOUNDS: [f32; 15] = {
    let mut bounds = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        bounds[i] = (UNEVEN[i] + UNEVEN[i + 1]) / 2.0;
        i += 1;
    }
    bounds
};

/// The nearest step.
#[inline(always)]
fn step(x: f32) -> f32 {
    let mut step = UNEVEN[0];
    for (bound, next) in BOUNDS.iter().zip(&UNEVEN[1..]) {
        step = if x > *bound { *next } else { step };
    }
    step
}

/// The number of the nearest step.
fn number(x: f32) -> u8 {
    BOUNDS.iter().map(|bound| u8::from(x > *bound)).sum()
}
