//! Vectors of x86: AVX-512 and AVX2.

use std::{arch::x86_64::*, mem::transmute};

use half::{bf16, f16};

use super::{Body, Simd};
use crate::aligned::Word as _;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run_avx512<B: Body>(body: B) -> B::Output {
    body.run(Avx512::<false>(()))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run_avx512_bf16<B: Body>(body: B) -> B::Output {
    body.run(Avx512::<true>(()))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<B: Body>(body: B) -> B::Output {
    body.run(Avx2(()))
}

/// 0, 16, 1, 17, …: numbers of two halves in turns.
static TURNS: [u16; 32] = {
    let mut turns = [0; 32];
    let mut i = 0;
    while i < 32 {
        turns[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    turns
};

/// 512-bit vectors; with dot products of pairs of bf16 and of four bytes where `BF16`.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// Numbers of which the upper half of the bits is the nearest bf16.
    #[inline(always)]
    fn rounded(self, v: __m512) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let bits = _mm512_castps_si512(v);
            // Half of the lower half's range, and one more where that makes a tie even.
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // NaN stays one by having its quiet bit set.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            _mm512_mask_mov_epi32(up, nan, _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000)))
        }
    }

    /// Rows of columns.
    #[inline(always)]
    fn transposed(self, row: [__m512; 16]) -> [__m512; 16] {
        // SAFETY: `self` proves the instructions.
        unsafe {
            // Two by two, then four by four numbers change places; then the quarters of rows.
            let mut two = row;
            for i in (0..16).step_by(2) {
                two[i] = _mm512_unpacklo_ps(row[i], row[i + 1]);
                two[i + 1] = _mm512_unpackhi_ps(row[i], row[i + 1]);
            }
            let mut four = two;
            for q in [0, 4, 8, 12] {
                for low in [0, 1] {
                    let (a, b) = (_mm512_castps_pd(two[q + low]), _mm512_castps_pd(two[q + low + 2]));
                    four[q + 2 * low] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    four[q + 2 * low + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            let mut column = row;
            for i in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(four[i], four[i + 4]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(four[i], four[i + 4]);
                let even_high = _mm512_shuffle_f32x4::<0x88>(four[i + 8], four[i + 12]);
                let odd_high = _mm512_shuffle_f32x4::<0xdd>(four[i + 8], four[i + 12]);
                column[i] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
                column[i + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
                column[i + 8] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
                column[i + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
            }
            column
        }
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    const LANES: usize = 16;
    const BITS_OF_BYTES: usize = if BF16 { 32 } else { 16 };
    type V = __m512;

    by_proof! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        scale(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        // 1: rounded down.
        fraction(a: __m512) -> __m512 = _mm512_reduce_ps::<{ 1 | _MM_FROUND_NO_EXC }>(a);
        // The instruction rounds the exponent down itself.
        scale_down(a: __m512, x: __m512, _fraction: __m512) -> __m512 = _mm512_scalef_ps(a, x);
        // 14 bits, doubled by a step of Newton's method.
        recip(a: __m512) -> __m512 = {
            let near = _mm512_rcp14_ps(a);
            _mm512_mul_ps(near, _mm512_fnmadd_ps(a, near, _mm512_set1_ps(2.0)))
        };
        // 2: the lesser magnitude, with the sign of the first.
        within(a: __m512, most: f32) -> __m512 = _mm512_range_ps::<2>(a, _mm512_set1_ps(most));
        // 0xd8 is the truth table of "c ? b : a" with the operands in this order: the sign bit of `b`, the rest of `a`.
        copysign(a: __m512, b: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xd8>(
            _mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_set1_epi32(i32::MIN),
        ));
        sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
        greatest(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
        dot_integers(a: __m512, b: __m512, sum: __m512) -> __m512 = {
            let products = _mm512_madd_epi16(_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(sum), products))
        };
        of_integers(a: __m512) -> __m512 = _mm512_cvtepi32_ps(_mm512_castps_si512(a));
    }

    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise; `self` proves the instruction.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> __m512 {
        // SAFETY: the same. A bf16 is the upper half of an f32.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, p: *const f16) -> __m512 {
        // SAFETY: the same.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: __m512) {
        // SAFETY: the same.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream_ptr(self, p: *mut f32, v: __m512) {
        // SAFETY: the same; `p` is aligned as the caller promises.
        unsafe { _mm512_stream_ps(p, v) }
    }
    #[inline(always)]
    fn join(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            if BF16 {
                // Two halves of 16 numbers each, whose numbers take turns in the result.
                let halves = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                let turns = _mm512_loadu_si512(TURNS.as_ptr().cast());
                return _mm512_castsi512_ps(_mm512_permutexvar_epi16(turns, halves));
            }
            let (low, high) = (_mm512_srli_epi32::<16>(self.rounded(first)), self.rounded(second));
            // 0xea is the truth table of "(a and b) or c" with the operands in this order.
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xea>(high, upper, low))
        }
    }
    #[inline(always)]
    fn round_to_pairs(self, x: &[f32], to: &mut [u32]) {
        assert!(x.len() == 32 && to.len() == 16);
        // SAFETY: the lengths are checked; `self` proves the instructions, those of bf16 where `BF16`.
        unsafe {
            if BF16 {
                // Numbers below the least normal one become 0, as which products of pairs take them in any case.
                let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
                let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs);
                return;
            }
            // A loop and no closure, which would be compiled for the least CPU.
            for half in 0..2 {
                let rounded = self.rounded(_mm512_loadu_ps(x.as_ptr().add(16 * half)));
                let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
                _mm256_storeu_si256(to.as_mut_ptr().add(8 * half).cast(), halves);
            }
        }
    }
    #[inline(always)]
    fn narrow(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions, those of bf16 where `BF16`; the types are the same 64 bytes.
        unsafe {
            if BF16 {
                return transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first));
            }
            let first = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.rounded(first)));
            let second = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.rounded(second)));
            _mm512_castsi512_ps(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second))
        }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a hint, which no address makes fail.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn transpose(self, square: &mut [[f32; 16]; 16]) {
        // Loops and no closures, which would be compiled for the least CPU.
        let mut row = [self.splat(0.0); 16];
        for i in 0..16 {
            row[i] = self.load(&square[i]);
        }
        let column = self.transposed(row);
        for i in 0..16 {
            self.store(&mut square[i], column[i]);
        }
    }
    #[inline(always)]
    fn choose(self, table: &[f32; 16], numbers: &[u8; 16], to: &mut [f32; 16]) {
        // SAFETY: 16 bytes are read; `self` proves the instructions, which look at four bits of each number.
        let values = unsafe {
            let numbers = _mm512_cvtepu8_epi32(_mm_loadu_si128(numbers.as_ptr().cast()));
            _mm512_permutexvar_ps(numbers, self.load(table))
        };
        self.store(to, values);
    }
    #[inline(always)]
    fn columns_to_pairs(self, rows: &[f32], apart: usize, to: &mut [u32], to_apart: usize) {
        let mut row = [self.splat(0.0); 16];
        for i in 0..16 {
            let values = &rows[i * apart..][..32];
            row[i] = self.narrow(self.load(values), self.load(&values[16..]));
        }
        let column = self.transposed(row);
        for i in 0..16 {
            self.store(u32::as_floats(&mut to[i * to_apart..][..16]), column[i]);
        }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        assert!(BF16, "pairs are packed only where there are instructions for them");
        // SAFETY: `self` proves the instruction, as just checked; the three types are the same 64 bytes.
        unsafe { _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
    }
    #[inline(always)]
    fn dot_bytes(self, weights: __m512, inputs: __m512, part: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions, that of four bytes where `BF16`.
        unsafe {
            let [weights, inputs, part] =
                [_mm512_castps_si512(weights), _mm512_castps_si512(inputs), _mm512_castps_si512(part)];
            _mm512_castsi512_ps(match BF16 {
                true => _mm512_dpbusd_epi32(part, weights, inputs),
                false => _mm512_add_epi16(part, _mm512_maddubs_epi16(weights, inputs)),
            })
        }
    }
    #[inline(always)]
    fn whole_sum(self, part: __m512, sum: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let (part, sum) = (_mm512_castps_si512(part), _mm512_castps_si512(sum));
            let whole = if BF16 { part } else { _mm512_madd_epi16(part, _mm512_set1_epi16(1)) };
            _mm512_castsi512_ps(_mm512_add_epi32(sum, whole))
        }
    }
    #[inline(always)]
    fn load_part(self, x: &[f32], rest: f32) -> __m512 {
        assert!(x.len() <= Self::LANES);
        let mask = ((1u32 << x.len()) - 1) as u16;
        // SAFETY: masked lanes are not read; `self` proves the instruction.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(rest), mask, x.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_part_ptr(self, p: *mut f32, n: usize, v: __m512) {
        debug_assert!(n <= Self::LANES);
        let mask = ((1u32 << n) - 1) as u16;
        // SAFETY: masked lanes are not written; the caller's promise for the others; `self` proves the instruction.
        unsafe { _mm512_mask_storeu_ps(p, mask, v) }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Columns of eight rows of eight numbers that begin 16 numbers from each other.
    ///
    /// # Safety
    /// `p` is good for reading them.
    #[inline(always)]
    unsafe fn columns(self, p: *const f32) -> [__m256; 8] {
        // SAFETY: the caller's promise; `self` proves the instructions.
        unsafe {
            let mut row = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                row[i] = _mm256_loadu_ps(p.add(16 * i));
            }
            // Two by two, then four by four numbers change places; then the halves of rows.
            let mut two = row;
            for i in (0..8).step_by(2) {
                two[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
                two[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
            }
            let mut four = two;
            for q in [0, 4] {
                for low in [0, 1] {
                    four[q + 2 * low] = _mm256_shuffle_ps::<0x44>(two[q + low], two[q + low + 2]);
                    four[q + 2 * low + 1] = _mm256_shuffle_ps::<0xee>(two[q + low], two[q + low + 2]);
                }
            }
            let mut column = row;
            for i in 0..4 {
                column[i] = _mm256_permute2f128_ps::<0x20>(four[i], four[i + 4]);
                column[i + 4] = _mm256_permute2f128_ps::<0x31>(four[i], four[i + 4]);
            }
            column
        }
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const BITS_OF_BYTES: usize = 16;
    type V = __m256;

    by_proof! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        scale(a: __m256, n: __m256) -> __m256 = {
            let n = _mm256_max_ps(_mm256_set1_ps(-126.0), _mm256_min_ps(_mm256_set1_ps(127.0), n));
            let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            _mm256_mul_ps(a, _mm256_castsi256_ps(bits))
        };
        copysign(a: __m256, b: __m256) -> __m256 = {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        };
        dot_integers(a: __m256, b: __m256, sum: __m256) -> __m256 = {
            let products = _mm256_madd_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), products))
        };
        dot_bytes(weights: __m256, inputs: __m256, part: __m256) -> __m256 = {
            let products = _mm256_maddubs_epi16(_mm256_castps_si256(weights), _mm256_castps_si256(inputs));
            _mm256_castsi256_ps(_mm256_add_epi16(_mm256_castps_si256(part), products))
        };
        whole_sum(part: __m256, sum: __m256) -> __m256 = {
            let whole = _mm256_madd_epi16(_mm256_castps_si256(part), _mm256_set1_epi16(1));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), whole))
        };
        of_integers(a: __m256) -> __m256 = _mm256_cvtepi32_ps(_mm256_castps_si256(a));
        sum(a: __m256) -> f32 = {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        };
        greatest(a: __m256) -> f32 = {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        };
    }

    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's promise; `self` proves the instruction.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> __m256 {
        // SAFETY: the same. A bf16 is the upper half of an f32.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, p: *const f16) -> __m256 {
        // SAFETY: the same.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: __m256) {
        // SAFETY: the same.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream_ptr(self, p: *mut f32, v: __m256) {
        // SAFETY: the same; `p` is aligned as the caller promises.
        unsafe { _mm256_stream_ps(p, v) }
    }
    #[inline(always)]
    fn transpose(self, square: &mut [[f32; 16]; 16]) {
        let p = square.as_mut_ptr().cast::<f32>();
        for (i, j) in [(0, 0), (0, 8), (8, 8)] {
            // SAFETY: both are eight by eight numbers of the square, which are all read before any is written.
            unsafe {
                let (across, down) = (self.columns(p.add(16 * i + j)), self.columns(p.add(16 * j + i)));
                for k in 0..8 {
                    _mm256_storeu_ps(p.add(16 * (j + k) + i), across[k]);
                    _mm256_storeu_ps(p.add(16 * (i + k) + j), down[k]);
                }
            }
        }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
}
