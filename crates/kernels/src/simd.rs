//! Vectors of f32, one type for each level of instructions, and the way into code that is compiled for one.
//!
//! A kernel is written once, generic over [`Simd`], as a [`Body`]; [`vectorize`] compiles it for every level and runs the one
//! that it is told. A value of a [`Simd`] type is the proof that the CPU has its instructions, as only [`vectorize`] makes one:
//! that is why its arithmetic is safe to call.

use half::{bf16, f16};

use crate::isa::{Isa, Level};

/// Work that can be compiled for any level. `run` has to be `#[inline(always)]`, and so has everything generic that it calls:
/// what is not inlined is compiled for the least CPU.
pub(crate) trait Body {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `body`, compiled for `isa`.
#[inline]
pub(crate) fn vectorize<B: Body>(isa: Isa, body: B) -> B::Output {
    match isa.level() {
        // SAFETY: an `Isa` of these levels exists only where the CPU has the features that the functions are compiled for.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::run_avx512(body) },
        // SAFETY: the same.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 | Level::Amx => unsafe { x86::run_avx512_bf16(body) },
        // SAFETY: the same.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::run_avx2(body) },
        // SAFETY: the same.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { arm::run_neon(body) },
        _ => body.run(Portable(())),
    }
}

/// Arithmetic on [`Simd::LANES`] numbers at once.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the CPU can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a · 2^n` for whole `n`, of which those beyond -126 to 127 may count as these. NaN of `a` stays.
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;
    /// `1 / a` within 1.2e-7 of it.
    #[inline(always)]
    fn recip(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// `a`, or `most` with its sign where it is greater; for NaN, NaN or a number within.
    #[inline(always)]
    fn within(self, a: Self::V, most: f32) -> Self::V {
        self.max(self.splat(-most), self.min(self.splat(most), a))
    }
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of all lanes, in an order that is the same for every call at this level.
    fn sum(self, a: Self::V) -> f32;
    /// The greatest lane.
    fn greatest(self, a: Self::V) -> f32;

    /// # Safety
    /// `p` is good for reading `LANES` numbers.
    unsafe fn load_ptr(self, p: *const f32) -> Self::V;
    /// # Safety
    /// As [`Simd::load_ptr`].
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> Self::V;
    /// # Safety
    /// As [`Simd::load_ptr`].
    unsafe fn load_f16_ptr(self, p: *const f16) -> Self::V;
    /// # Safety
    /// `p` is good for writing `LANES` numbers.
    unsafe fn store_ptr(self, p: *mut f32, v: Self::V);
    /// Stores past the caches, for what is larger than they are and not read again soon.
    ///
    /// # Safety
    /// As [`Simd::store_ptr`], and `p` is a multiple of the vector's size.
    unsafe fn stream_ptr(self, p: *mut f32, v: Self::V) {
        // SAFETY: passed on.
        unsafe { self.store_ptr(p, v) }
    }

    /// `sum + a · b` where every lane holds a pair of bf16, the first one in the lower half.
    ///
    /// # Safety
    /// The CPU has [`Level::Avx512Bf16`]'s instructions, or this is not a type of x86.
    #[inline(always)]
    unsafe fn dot_pairs(self, _a: Self::V, _b: Self::V, _sum: Self::V) -> Self::V {
        unreachable!("pairs are packed only where there are instructions for them")
    }

    /// Rounds 32 numbers to bf16, ties to even, two to a word with the first one in the lower half.
    #[inline(always)]
    fn round_to_pairs(self, x: &[f32], to: &mut [u32]) {
        for (to, x) in to.iter_mut().zip(x.chunks_exact(2)) {
            *to = u32::from(bf16::from_f32(x[0]).to_bits()) | u32::from(bf16::from_f32(x[1]).to_bits()) << 16;
        }
    }

    /// Rounds two vectors to bf16 and puts each number of `second` into the upper half of its word, above that of `first`.
    #[inline(always)]
    fn join(self, first: Self::V, second: Self::V) -> Self::V {
        let (mut low, mut high) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        self.store(&mut low, first);
        self.store(&mut high, second);
        for i in 0..Self::LANES {
            let [low_bits, high_bits] = [low[i], high[i]].map(|v| u32::from(bf16::from_f32(v).to_bits()));
            low[i] = f32::from_bits(low_bits | high_bits << 16);
        }
        self.load(&low)
    }

    /// Makes what was streamed visible to other threads.
    #[inline(always)]
    fn fence(self) {}

    /// Makes rows of columns.
    #[inline(always)]
    fn transpose(self, square: &mut [[f32; 16]; 16]) {
        for i in 0..16 {
            for j in 0..i {
                let (a, b) = (square[i][j], square[j][i]);
                (square[i][j], square[j][i]) = (b, a);
            }
        }
    }

    /// Hints that the cache line of `p`, which may be any address, will be read soon.
    #[inline(always)]
    fn prefetch(self, _p: *const u8) {}

    /// The first [`Simd::LANES`] numbers.
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::V {
        assert!(x.len() >= Self::LANES);
        // SAFETY: just checked.
        unsafe { self.load_ptr(x.as_ptr()) }
    }

    /// All of `x`, at most [`Simd::LANES`], and `rest` in the other lanes.
    #[inline(always)]
    fn load_part(self, x: &[f32], rest: f32) -> Self::V {
        let mut all = [rest; MAX_LANES];
        all[..x.len()].copy_from_slice(x);
        self.load(&all)
    }

    /// To the first [`Simd::LANES`] places.
    #[inline(always)]
    fn store(self, x: &mut [f32], v: Self::V) {
        assert!(x.len() >= Self::LANES);
        // SAFETY: just checked.
        unsafe { self.store_ptr(x.as_mut_ptr(), v) }
    }

    /// The first `x.len()` lanes, at most [`Simd::LANES`].
    #[inline(always)]
    fn store_part(self, x: &mut [f32], v: Self::V) {
        let mut all = [0.0; MAX_LANES];
        self.store(&mut all, v);
        x.copy_from_slice(&all[..x.len()]);
    }
}

/// Numbers in the widest vector of all.
pub(crate) const MAX_LANES: usize = 16;

/// Rust's own arithmetic, eight numbers at a time, which compilers turn into what the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

impl Portable {
    #[inline(always)]
    fn map(a: [f32; 8], f: impl Fn(f32) -> f32) -> [f32; 8] {
        std::array::from_fn(|i| f(a[i]))
    }

    #[inline(always)]
    fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
        std::array::from_fn(|i| f(a[i], b[i]))
    }
}

impl Simd for Portable {
    const LANES: usize = 8;
    type V = [f32; 8];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| a / b)
    }
    // `f32::mul_add` is a call into the mathematics library where the target has no such instruction.
    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: [f32; 8]) -> [f32; 8] {
        // Adding and taking 1.5 · 2^23 leaves no bits below one; beyond 2^22 a number is taken as it is.
        const SHIFT: f32 = 12_582_912.0;
        Self::map(a, |a| if a.abs() < 4_194_304.0 { (a + SHIFT) - SHIFT } else { a })
    }
    #[inline(always)]
    fn scale(self, a: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        Self::zip(a, n, |a, n| a * f32::from_bits(((n.clamp(-126.0, 127.0) as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn copysign(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, f32::copysign)
    }
    #[inline(always)]
    fn sum(self, a: [f32; 8]) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn greatest(self, a: [f32; 8]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> [f32; 8] {
        // SAFETY: the caller's promise; an array has no alignment beyond its element's.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> [f32; 8] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| unsafe { p.add(i).read() }.to_f32())
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, p: *const f16) -> [f32; 8] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| unsafe { p.add(i).read() }.to_f32())
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: [f32; 8]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, mem::transmute};

    use super::{Body, Simd, bf16, f16};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512<B: Body>(body: B) -> B::Output {
        body.run(Avx512(()))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(super) unsafe fn run_avx512_bf16<B: Body>(body: B) -> B::Output {
        body.run(Avx512(()))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn run_avx2<B: Body>(body: B) -> B::Output {
        body.run(Avx2(()))
    }

    /// A method whose instruction is safe because a value of the type exists.
    macro_rules! by_proof {
        ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) -> $out {
                // SAFETY: `self` exists only where the CPU has these instructions (see `vectorize`).
                unsafe { $body }
            }
        )*};
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx512 {
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
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
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
                let (low, high) = (_mm512_srli_epi32::<16>(self.rounded(first)), self.rounded(second));
                // 0xea is the truth table of "(a and b) or c" with the operands in this order.
                let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xea>(high, upper, low))
            }
        }
        #[inline(always)]
        fn round_to_pairs(self, x: &[f32], to: &mut [u32]) {
            assert!(x.len() == 32 && to.len() == 16);
            // SAFETY: the lengths are checked; `self` proves the instructions.
            unsafe {
                // A loop and no closure, which would be compiled for the least CPU.
                for half in 0..2 {
                    let rounded = self.rounded(_mm512_loadu_ps(x.as_ptr().add(16 * half)));
                    let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
                    _mm256_storeu_si256(to.as_mut_ptr().add(8 * half).cast(), halves);
                }
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
            // SAFETY: every row is a vector; `self` proves the instructions.
            unsafe {
                // Loops and no closures, which would be compiled for the least CPU.
                let mut row = [_mm512_setzero_ps(); 16];
                for i in 0..16 {
                    row[i] = _mm512_loadu_ps(square[i].as_ptr());
                }
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
                for i in 0..4 {
                    let even = _mm512_shuffle_f32x4::<0x88>(four[i], four[i + 4]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(four[i], four[i + 4]);
                    let even_high = _mm512_shuffle_f32x4::<0x88>(four[i + 8], four[i + 12]);
                    let odd_high = _mm512_shuffle_f32x4::<0xdd>(four[i + 8], four[i + 12]);
                    _mm512_storeu_ps(square[i].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(even, even_high));
                    _mm512_storeu_ps(square[i + 4].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(odd, odd_high));
                    _mm512_storeu_ps(square[i + 8].as_mut_ptr(), _mm512_shuffle_f32x4::<0xdd>(even, even_high));
                    _mm512_storeu_ps(square[i + 12].as_mut_ptr(), _mm512_shuffle_f32x4::<0xdd>(odd, odd_high));
                }
            }
        }
        #[inline(always)]
        unsafe fn dot_pairs(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
            // SAFETY: the caller's promise; the three types are the same 64 bytes.
            unsafe { _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
        }
        #[inline(always)]
        fn load_part(self, x: &[f32], rest: f32) -> __m512 {
            assert!(x.len() <= Self::LANES);
            let mask = ((1u32 << x.len()) - 1) as u16;
            // SAFETY: masked lanes are not read; `self` proves the instruction.
            unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(rest), mask, x.as_ptr()) }
        }
        #[inline(always)]
        fn store_part(self, x: &mut [f32], v: __m512) {
            assert!(x.len() <= Self::LANES);
            let mask = ((1u32 << x.len()) - 1) as u16;
            // SAFETY: masked lanes are not written; `self` proves the instruction.
            unsafe { _mm512_mask_storeu_ps(x.as_mut_ptr(), mask, v) }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Simd for Avx2 {
        const LANES: usize = 8;
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
        fn fence(self) {
            // SAFETY: every x86-64 CPU has it.
            unsafe { _mm_sfence() }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{Body, Simd, bf16, f16};

    #[target_feature(enable = "neon")]
    pub(super) unsafe fn run_neon<B: Body>(body: B) -> B::Output {
        body.run(Neon(()))
    }

    /// A method whose instruction is safe because a value of the type exists.
    macro_rules! by_proof {
        ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) -> $out {
                // SAFETY: `self` exists only where the CPU has these instructions (see `vectorize`).
                unsafe { $body }
            }
        )*};
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Neon(());

    impl Simd for Neon {
        const LANES: usize = 4;
        type V = float32x4_t;

        by_proof! {
            splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
            add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
            sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
            mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
            div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
            fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
            max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
            min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
            round(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
            scale(a: float32x4_t, n: float32x4_t) -> float32x4_t = {
                let n = vmaxq_f32(vdupq_n_f32(-126.0), vminq_f32(vdupq_n_f32(127.0), n));
                let bits = vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)));
                vmulq_f32(a, vreinterpretq_f32_s32(bits))
            };
            copysign(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vdupq_n_u32(1 << 31), b, a);
            sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
            greatest(a: float32x4_t) -> f32 = vmaxvq_f32(a);
        }

        #[inline(always)]
        unsafe fn load_ptr(self, p: *const f32) -> float32x4_t {
            // SAFETY: the caller's promise; `self` proves the instruction.
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn load_bf16_ptr(self, p: *const bf16) -> float32x4_t {
            // SAFETY: the same. A bf16 is the upper half of an f32.
            unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_f16_ptr(self, p: *const f16) -> float32x4_t {
            // SAFETY: the caller's promise.
            let four: [f32; 4] = std::array::from_fn(|i| unsafe { p.add(i).read() }.to_f32());
            self.load(&four)
        }
        #[inline(always)]
        unsafe fn store_ptr(self, p: *mut f32, v: float32x4_t) {
            // SAFETY: the same.
            unsafe { vst1q_f32(p, v) }
        }
    }
}
