//! The normal values of torch's CPU generator, bit for bit.
//!
//! Reference: torch 2.15.0 (d0f2af8), `aten/src/ATen`: `native/cpu/DistributionTemplates.h` (the
//! two paths), `core/DistributionsHelper.h` (the scalar one). What is vectors there is
//! [`core_tensor::box_muller`].
//!
//! torch draws fewer than 16 values one by one in `f64`, and 16 or more in blocks with an `f32`
//! logarithm, sine and cosine of its own.
//!
//! # Which torch
//!
//! The block path has an AVX2 build and no AVX-512 one, so torch's own Linux package makes the same
//! bits on every x86-64 machine with AVX2 and FMA. They are the bits made here, on any machine.
//!
//! Other builds draw the same uniform values in the same order but may end in other last bits. Without
//! AVX2 (an old x86, Arm, or `ATEN_CPU_CAPABILITY=default`) torch takes the C library's `logf`,
//! `sinf` and `cosf`: four normal values of ten differ, by 2e-6 at most in a million. Which
//! multiplications and additions are fused is GCC's choice, not torch's, so a torch that another
//! compiler built (Windows) may differ likewise; none was compared.
//!
//! The `f64` path calls the platform's `sin`, `cos` and `ln_1p`, as torch does. Where two C
//! libraries differ by an ulp of `f64`, the rounding to `f32` hides it but for about one value in
//! 2²⁹.
//!
//! # What was compared with what
//!
//! With torch 2.15.0 for Linux on an AVX-512 machine, as bits: the block path for every one of the 2²⁴ values
//! that each of its two uniforms can take, by planting them in the generator's state; and 24
//! million values of sequences that mix short, long and ragged calls, under 68 seeds.

use std::f64;

use core_tensor::{NORMAL_BLOCK as BLOCK, box_muller};

use super::mt19937::Mt19937;

/// torch's `CPUGeneratorImpl`, as far as `randn` uses it.
#[derive(Clone, Debug)]
pub(super) struct CpuGenerator {
    engine: Mt19937,
    /// The second value of the last `f64` pair. Calls of 16 and more neither use nor drop it.
    next_double_normal_sample: Option<f64>,
}

impl CpuGenerator {
    /// The stream of `torch.Generator("cpu").manual_seed(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        // the cast drops the upper 32 bits, as torch does
        Self { engine: Mt19937::new(seed as u32), next_double_normal_sample: None }
    }

    /// The next `torch.randn` of `len` values.
    pub(super) fn randn(&mut self, len: usize) -> Vec<f32> {
        if len < BLOCK {
            return (0..len).map(|_| self.normal() as f32).collect();
        }
        let mut values = vec![0.0; len];
        self.uniform_f32(&mut values);
        box_muller(&mut values);
        if !len.is_multiple_of(BLOCK) {
            // torch has no short block: it draws the last 16 values anew, over some already done
            let last = &mut values[len - BLOCK..];
            self.uniform_f32(last);
            box_muller(last);
        }
        values
    }

    fn normal(&mut self) -> f64 {
        let sample = self.next_double_normal_sample.take().unwrap_or_else(|| {
            let u1 = self.uniform_f64();
            let u2 = self.uniform_f64();
            let radius = (-2.0 * (-u2).ln_1p()).sqrt();
            let theta = f64::consts::TAU * u1;
            self.next_double_normal_sample = Some(radius * theta.sin());
            radius * theta.cos()
        });
        sample + 0.0 // torch adds the mean, which makes -0 a +0
    }

    /// Uniform in [0, 1), each from the low 24 bits of a word.
    fn uniform_f32(&mut self, values: &mut [f32]) {
        const STEPS: u32 = 1 << f32::MANTISSA_DIGITS;
        // As a signed number, which they fit into, they are converted many at once.
        self.engine.each(values, |value, word| *value = (word % STEPS) as i32 as f32 / STEPS as f32);
    }

    /// Uniform in [0, 1), from the low 53 bits of two words.
    fn uniform_f64(&mut self) -> f64 {
        const STEPS: u64 = 1 << f64::MANTISSA_DIGITS;
        (self.engine.random64() % STEPS) as f64 / STEPS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every expected value below is `tensor.numpy().view(uint32)` of torch 2.15.0, AVX2 kernels.

    #[test]
    fn a_short_call_is_drawn_in_pairs_of_f64() {
        let mut generator = CpuGenerator::new(0);
        let expected = [0x3fc5_3f5c, 0xbe96_3c50, 0xc00b_7149, 0x3f11_84b6, 0xbf8a_d1a1];
        assert_eq!(bits(&generator.randn(5)), expected);
    }

    #[test]
    fn sixteen_values_are_one_block() {
        let mut generator = CpuGenerator::new(42);
        let expected = [
            0x3ff6_a529,
            0x3fbe_5f53,
            0x3f66_9567,
            0xc006_c0db,
            0x3f2d_acd5,
            0xbf9e_0591,
            0xbd30_6786,
            0xbfcd_65ba,
            0xbf40_8bf0,
            0x3fd3_095b,
            0xbec8_f2f6,
            0xbfb3_a966,
            0xbf3a_566e,
            0xbf0f_36d1,
            0xbf44_d2a0,
            0x3f43_2f9f,
        ];
        assert_eq!(bits(&generator.randn(16)), expected);
    }

    #[test]
    fn a_held_back_value_outlives_a_ragged_block_call() {
        // given a generator that has made three values of two pairs
        let mut generator = CpuGenerator::new(42);
        assert_eq!(bits(&generator.randn(3)), [0x3eac_62ae, 0x3e03_e69d, 0x3e70_16e7]);
        // when 17 are drawn, one block and a rest that draws its block anew
        let expected = [
            0x3fe4_d648,
            0xbf2f_c686,
            0xbefc_9934,
            0x3e77_4893,
            0xbf8e_3219,
            0x3dbb_7c4a,
            0xc014_4876,
            0xbe5e_020f,
            0xbfb1_3cfd,
            0xbeca_9a91,
            0x3f4d_ac3c,
            0xbf1f_20e0,
            0xbf17_8d59,
            0xbd81_2d24,
            0xbf54_1c22,
            0x3ea9_6b85,
            0xbfc7_5e89,
        ];
        assert_eq!(bits(&generator.randn(17)), expected);
        // then the fourth value of the two pairs comes before a new pair
        assert_eq!(bits(&generator.randn(2)), [0x3e6b_dc6c, 0x3f8f_8b70]);
    }

    #[test]
    fn only_the_low_half_of_a_seed_counts() {
        for (seed, expected) in [
            (5, [0xbef9_3b54, 0xbf1a_940d]),
            ((1 << 32) + 5, [0xbef9_3b54, 0xbf1a_940d]),
            ((1 << 32) - 1, [0x3f9c_2132, 0xbec9_349b]),
            ((1 << 63) - 1, [0x3f9c_2132, 0xbec9_349b]),
        ] {
            assert_eq!(bits(&CpuGenerator::new(seed).randn(2)), expected, "seed {seed}");
        }
    }

    #[test]
    fn every_bit_of_an_sdxl_latent_is_torchs() {
        let values = CpuGenerator::new(42).randn(4 * 128 * 128);
        let digest = bits(&values).iter().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(*b));
        assert_eq!(digest, 0x0f76_5082);
    }

    #[test]
    fn an_empty_call_draws_nothing() {
        let mut generator = CpuGenerator::new(0);
        assert!(generator.randn(0).is_empty());
        assert_eq!(generator.randn(5), CpuGenerator::new(0).randn(5));
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }
}
