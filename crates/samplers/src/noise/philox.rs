//! The normal values of torch's CUDA generator, made on the host.
//!
//! Reference: A1111 `modules/rng_philox.py` (ef1698f), which Forge shares, in the arithmetic that
//! NumPy gives it: counter-based Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random
//! Numbers: As Easy as 1, 2, 3", SC 2011) in cuRAND's layout, and the first value of one Box–Muller
//! pair for each element.
//!
//! # Which element takes which counter
//!
//! The key is the seed. Element `i` of call `n` (from zero) on a generator has the counter with the
//! words `n, 0, i, 0`, the lowest first: `i` is cuRAND's subsequence, which torch makes the thread
//! number, and `n` the block within it.
//!
//! # Where this is CUDA's own stream, and where it ends
//!
//! torch gives each element a thread of its own only while the card holds that many threads at
//! once:
//!
//! ```text
//! len <= T,   T = 256 · multiProcessorCount · ⌊maxThreadsPerMultiProcessor / 256⌋
//! ```
//!
//! (`calc_execution_policy`, `aten/src/ATen/native/cuda/DistributionTemplates.h`, torch 2.15.0.)
//! `T` is 40 960 on a T4, 89 088 on an L4, 122 880 on an A10G, 175 104 on a 4090D, 233 472 on an
//! H100 PCIe. A longer call reuses threads: element `i` takes value `⌊i / T⌋ % 4` of block
//! `n + ⌊i / 4T⌋` of thread `i % T`, where the four values of a block are sine and cosine of its two
//! pairs, and the call moves `n` on by `⌈len / 4T⌉`. There the same seed is another picture on
//! another card. This module, like A1111, keeps the rule of the short call at every length.
//!
//! So a 512×512 SD 1.5 latent (16 384 values) is CUDA's on all of these cards, a 1024×1024 SDXL
//! latent (65 536) on all but the T4, and a 1024×1024 Flux latent (262 144) on none: there it is
//! A1111's only.
//!
//! # How close the values are
//!
//! The random words are CUDA's exactly; the step from words to normal values is not. cuRAND rounds
//! each operation to `f32` and takes the card's fast sine, A1111 computes in `f64` and rounds once.
//! The rounding alone moves one value in 5 600 by more than 1e-6 (computed, for ten million), a few
//! by 1e-5 where the first uniform is close to one; the fast sine was not modelled.
//!
//! # What was compared with what
//!
//! The rounds with the known answers of Random123. The values as bits with `rng_philox.py` under
//! NumPy 2.4.6, 24 million of them under 68 seeds. CUDA itself with 51 values that people have
//! published from `torch.randn(…, device="cuda")`, to their four decimals; no card was at hand. The
//! limit is read from torch's source; the cards measured in torch's issues #176584, #194676 and
//! #196613 agree with it.

use std::f32::consts::TAU;
/// torch's `CUDAGeneratorImpl`, as far as `randn` of small tensors uses it.
#[derive(Clone, Debug)]
pub(super) struct CudaGenerator {
    key: [u32; 2],
    /// Blocks that each thread has used. torch's `philox_offset_per_thread` counts their words, four
    /// times as many.
    offset: u64,
}

impl CudaGenerator {
    /// The stream of `torch.Generator("cuda").manual_seed(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        Self { key: words(seed), offset: 0 }
    }

    /// The next `torch.randn` of `len` values.
    pub(super) fn randn(&mut self, len: usize) -> Vec<f32> {
        if len == 0 {
            return Vec::new(); // torch launches no kernel, and the offset stays
        }
        let [c0, c1] = words(self.offset);
        self.offset = self.offset.wrapping_add(1);
        (0..len as u64)
            .map(words)
            .map(|[c2, c3]| {
                let [x, y, _, _] = philox4x32_10([c0, c1, c2, c3], self.key);
                first_normal(x, y)
            })
            .collect()
    }
}

/// The ten-round Philox bijection of a counter under a key.
fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let rounds = 0..10;
    let (counter, _) = rounds.fold((counter, key), |([c0, c1, c2, c3], [k0, k1]), _| {
        let [low0, high0] = words(M0 * u64::from(c0));
        let [low1, high1] = words(M1 * u64::from(c2));
        let counter = [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0];
        (counter, [k0.wrapping_add(W0), k1.wrapping_add(W1)])
    });
    counter
}

/// The sine half of the Box–Muller pair of two words; the cosine half is dropped.
fn first_normal(x: u32, y: u32) -> f32 {
    let u = f64::from(x) * STEP + STEP / 2.0;
    let v = f64::from(y) * ANGLE_STEP + ANGLE_STEP / 2.0;
    ((-2.0 * u.ln()).sqrt() * v.sin()) as f32
}

/// The two halves of 64 bits, the lower first.
fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

// Salmon et al. (2011): the multipliers, and the golden ratio and √3 − 1 as Weyl increments.
const M0: u64 = 0xd251_1f53;
const M1: u64 = 0xcd9e_8d57;
const W0: u32 = 0x9e37_79b9;
const W1: u32 = 0xbb67_ae85;
/// cuRAND's `CURAND_2POW32_INV`, 2⁻³².
const STEP: f64 = 1.0 / (1u64 << 32) as f64;
/// cuRAND's `CURAND_2POW32_INV_2PI`: an `f32` product, so 2π as `f32` has it.
const ANGLE_STEP: f64 = TAU as f64 * STEP;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_give_the_known_answers_of_random123() {
        // tests/kat_vectors, lines `philox4x32 10`, Random123 9545ff6
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn seed_zero_starts_as_rng_philox_documents() {
        // its docstring, from which its own output under NumPy 2.4.6 is up to 2.4e-7 away
        let documented = [
            -0.924_662_59,
            -0.425_344_15,
            -2.643_845_7,
            0.145_183_88,
            -0.120_866_47,
            -0.579_725_64,
            -0.622_851_22,
            -0.328_387_09,
            -1.074_542_31,
            -0.363_144_07,
            -1.671_050_67,
            2.265_504_97_f64,
        ];
        let values = CudaGenerator::new(0).randn(12);
        for (&value, documented) in values.iter().zip(documented) {
            assert!((f64::from(value) - documented).abs() < 3e-7, "{value} is not {documented}");
        }
    }

    #[test]
    fn seed_ten_starts_as_a_card_printed_it() {
        // torch 1.11.0+cu113 on a card, issue #79496 of pytorch/pytorch
        let card = [-0.1029, 1.6810, -0.2708];
        let values = CudaGenerator::new(10).randn(3);
        for (value, card) in values.iter().zip(card) {
            assert!((value - card).abs() < 0.6e-4, "{value} is not {card}");
        }
    }

    #[test]
    fn each_call_moves_every_thread_on_by_one_block() {
        // given a seed whose upper half counts, unlike on the CPU source
        let mut generator = CudaGenerator::new((1 << 32) + 5);
        // when it is called twice; then both calls are those of rng_philox.py, as bits
        assert_eq!(bits(&generator.randn(3)), [0xc035_ef93, 0x3fab_9541, 0x3e8b_61d8]);
        assert_eq!(bits(&generator.randn(2)), [0x3fc3_c9bc, 0xbe5c_7dd6]);
    }

    #[test]
    fn every_bit_of_an_sdxl_latent_is_rng_philoxs() {
        let values = CudaGenerator::new(42).randn(4 * 128 * 128);
        let digest = bits(&values).iter().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(*b));
        assert_eq!(digest, 0xb20b_0d7e);
    }

    #[test]
    fn an_empty_call_moves_nothing() {
        let mut generator = CudaGenerator::new(0);
        assert!(generator.randn(0).is_empty());
        assert_eq!(generator.randn(3), CudaGenerator::new(0).randn(3));
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }
}
