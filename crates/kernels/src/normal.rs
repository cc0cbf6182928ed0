//! Normal values of uniform ones, to the bits of torch's CPU generator.
//!
//! Reference: torch 2.15.0 (d0f2af8), `aten/src/ATen`: `native/cpu/DistributionTemplates.h` (`normal_fill`), `native/cpu/avx_mathfun.h`
//! (logarithm, sine and cosine of Cephes). The block path has an AVX2 build and no AVX-512 one, and its bits are those made here at every
//! level: vectors change how many values are made at once, and none of them.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use crate::{
    isa::Isa,
    simd::{Body, Simd, vectorize},
};

/// Values that are transformed together: the first half are radii, the second angles.
pub const NORMAL_BLOCK: usize = 16;

/// Turns uniform values in [0, 1) into standard normal ones, by Box and Muller's transform: in each block of [`NORMAL_BLOCK`], value `j` pairs
/// with value `j + 8`. What is behind the last whole block stays. It runs on the thread that calls it.
pub fn box_muller(isa: Isa, values: &mut [f32]) {
    let (blocks, _) = values.as_chunks_mut();
    vectorize(isa, Blocks { blocks });
}

/// Blocks whose pairs go through the same loop: as many pairs as fill the widest vectors, and more than a compiler unrolls.
const TOGETHER: usize = 8;
const PAIRS: usize = TOGETHER * NORMAL_BLOCK / 2;

struct Blocks<'a> {
    blocks: &'a mut [[f32; NORMAL_BLOCK]],
}

impl Body for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for blocks in self.blocks.chunks_mut(TOGETHER) {
            // The rest of a last, shorter group is computed and not taken.
            let (mut first, mut second) = ([0.0; PAIRS], [0.0; PAIRS]);
            let (halves, _) = first.as_chunks_mut();
            let (others, _) = second.as_chunks_mut();
            for (block, (u1, u2)) in blocks.iter().zip(halves.iter_mut().zip(others)) {
                let (radii, angles) = block.split_at(NORMAL_BLOCK / 2);
                let half: &mut [f32; NORMAL_BLOCK / 2] = u1;
                half.copy_from_slice(radii);
                let other: &mut [f32; NORMAL_BLOCK / 2] = u2;
                other.copy_from_slice(angles);
            }
            for (u1, u2) in first.iter_mut().zip(&mut second) {
                let radius = (-2.0 * ln(1.0 - *u1)).sqrt();
                let (sin, cos) = sin_cos(TAU * *u2);
                // torch adds the mean, which makes -0 a +0
                *u1 = radius * cos + 0.0;
                *u2 = radius * sin + 0.0;
            }
            let (halves, _) = first.as_chunks::<{ NORMAL_BLOCK / 2 }>();
            let (others, _) = second.as_chunks::<{ NORMAL_BLOCK / 2 }>();
            for (block, (u1, u2)) in blocks.iter_mut().zip(halves.iter().zip(others)) {
                let (radii, angles) = block.split_at_mut(NORMAL_BLOCK / 2);
                radii.copy_from_slice(u1);
                angles.copy_from_slice(u2);
            }
        }
    }
}

/// Cephes `logf` as torch's AVX2 build evaluates it; `x` is positive and normal.
///
/// `mul_add` stands where torch's build has a fused operation, `*` and `+` where it has two.
/// Regrouping changes bits.
#[inline(always)]
fn ln(x: f32) -> f32 {
    // x = m · 2^e with m in [1/2, 1), then moved to [√½, √2) and to zero
    let m = f32::from_bits(x.to_bits() & MANTISSA | 0.5f32.to_bits());
    let e = (x.to_bits() >> (f32::MANTISSA_DIGITS - 1)) as i32 as f32 - 126.0;
    let is_low = m < FRAC_1_SQRT_2;
    let (twice, less) = (if is_low { m + m } else { m }, if is_low { 1.0 } else { 0.0 });
    let (m, e) = (twice - 1.0, e - less);

    let z = m * m;
    let y = LN_P.iter().fold(LN_P0, |y, &p| y.mul_add(m, p)) * m;
    let y = y.mul_add(z, e * LN_2_LOW) - 0.5 * z;
    e.mul_add(LN_2_HIGH, m + y)
}

/// Cephes `sinf` and `cosf` as torch's AVX2 build evaluates them; `x` is in [0, 2π].
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    let octant = ((x * FOUR_OVER_PI) as i32).wrapping_add(1) & !1;
    let y = octant as f32;
    let x = QUARTER_PI.iter().fold(x, |x, &part| y.mul_add(-part, x)); // in [-π/4, π/4]

    let z = x * x;
    let cos = COS_P.iter().fold(COS_P0, |y, &p| y.mul_add(z, p)) * z;
    let cos = cos.mul_add(z, -0.5 * z) + 1.0;
    let sin = SIN_P.iter().fold(SIN_P0, |y, &p| y.mul_add(z, p)) * z;
    let sin = sin.mul_add(x, x);

    let (sin, cos) = if octant & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let sin = if octant & 4 == 0 { sin } else { -sin };
    let cos = if octant.wrapping_add(2) & 4 == 0 { cos } else { -cos };
    (sin, cos)
}

const MANTISSA: u32 = (1 << (f32::MANTISSA_DIGITS - 1)) - 1;

// Cephes Math Library 2.2, Moshier 1992: logf.c and sinf.c, highest power first.
const LN_P0: f32 = 7.037_683_6e-2;
const LN_P: [f32; 8] = [
    -1.151_461e-1,
    1.167_699_84e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_4e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];
const LN_2_HIGH: f32 = 355.0 / 512.0; // few bits: its product with an exponent is exact
const LN_2_LOW: f32 = -2.121_944_4e-4;
const SIN_P0: f32 = -1.951_529_6e-4;
const SIN_P: [f32; 2] = [8.332_161e-3, -1.666_665_5e-1];
const COS_P0: f32 = 2.443_315_7e-5;
const COS_P: [f32; 2] = [-1.388_731_6e-3, 4.166_664_6e-2];
const FOUR_OVER_PI: f32 = 1.273_239_5;
/// π/4 in three parts of few bits each, so that a multiple of the first two is exact.
const QUARTER_PI: [f32; 3] = [0.785_156_25, 2.418_756_5e-4, 3.774_895e-8];
