//! Vectors of f32, one type for each level of instructions, and the way into code that is compiled for one.
//!
//! A kernel is written once, generic over [`Simd`], as a [`Body`]; [`vectorize`] compiles it for every level and runs the one
//! that it is told. A value of a [`Simd`] type is the proof that the CPU has its instructions, as only [`vectorize`] makes one:
//! that is why its arithmetic is safe to call.

/// A method whose instruction is safe because a value of the type exists. Stands before the modules that use it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by_proof {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $out {
            // SAFETY: `self` exists only where the CPU has these instructions (see `vectorize`).
            unsafe { $body }
        }
    )*};
}

#[cfg(target_arch = "aarch64")]
mod arm;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::mem::MaybeUninit;

use half::{bf16, f16};

use self::portable::Portable;
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
        Level::Portable => body.run(Portable),
        // SAFETY: an `Isa` of this level exists only where the CPU has the features that the function is compiled for.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::run_avx2(body) },
        // SAFETY: the same.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::run_avx512(body) },
        // SAFETY: the same.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 | Level::Amx => unsafe { x86::run_avx512_bf16(body) },
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 | Level::Amx => body.run(Portable),
        // SAFETY: the same.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { arm::run_neon(body) },
        #[cfg(not(target_arch = "aarch64"))]
        Level::Neon => body.run(Portable),
    }
}

/// Arithmetic on [`Simd::LANES`] numbers at once.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    /// Bits of the sums of [`Simd::dot_bytes`]; 0 where there are no instructions for it.
    const BITS_OF_BYTES: usize = 0;
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
    /// How far `a` is above the next whole number below it, 0 to 1.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    #[inline(always)]
    fn fraction(self, a: Self::V) -> Self::V {
        self.sub(a, self.round(self.sub(a, self.splat(0.5))))
    }
    /// `a · 2^⌊x⌋`, where `fraction` is what [`Simd::fraction`] says of `x`; beyond -126 to 127 as [`Simd::scale`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    #[inline(always)]
    fn scale_down(self, a: Self::V, x: Self::V, fraction: Self::V) -> Self::V {
        self.scale(a, self.sub(x, fraction))
    }
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

    /// Stores the first `n` lanes, at most [`Simd::LANES`].
    ///
    /// # Safety
    /// `p` is good for writing `n` numbers.
    #[inline(always)]
    unsafe fn store_part_ptr(self, p: *mut f32, n: usize, v: Self::V) {
        let mut all = [0.0; MAX_LANES];
        self.store(&mut all, v);
        // SAFETY: the caller's promise, and `all` is no memory of anyone else's.
        unsafe { p.copy_from_nonoverlapping(all[..n].as_ptr(), n) }
    }

    /// `sum + a · b` where every lane holds a pair of bf16, the first one in the lower half.
    ///
    /// # Panics
    /// If the level has no instruction for it.
    #[inline(always)]
    fn dot_pairs(self, _a: Self::V, _b: Self::V, _sum: Self::V) -> Self::V {
        unreachable!("pairs are packed only where there are instructions for them")
    }

    /// `sum + a · b` where every lane of `a` and `b` holds a pair of integers of 16 bits, and of `sum` one of 32; sums wrap.
    #[inline(always)]
    fn dot_integers(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        let [a, b, mut sums] = [a, b, sum].map(|v| {
            let mut all = [0.0; MAX_LANES];
            self.store(&mut all, v);
            all
        });
        for i in 0..Self::LANES {
            let [a, b] = [a[i], b[i]].map(|v| v.to_bits().cast_signed());
            let (low, high) = (i32::from(a as i16) * i32::from(b as i16), (a >> 16) * (b >> 16));
            let sum = sums[i].to_bits().cast_signed().wrapping_add(low).wrapping_add(high);
            sums[i] = f32::from_bits(sum.cast_unsigned());
        }
        self.load(&sums)
    }

    /// `part + weights · inputs` where every lane of `weights` holds four integers of 8 bits without a sign, of `inputs` four with one, and of
    /// `part` what [`Simd::whole_sum`] adds up: at a level whose parts are 16 bits they are exact for [`Isa::byte_steps`] steps.
    ///
    /// # Panics
    /// If the level has no instruction for it.
    #[inline(always)]
    fn dot_bytes(self, _weights: Self::V, _inputs: Self::V, _part: Self::V) -> Self::V {
        unreachable!("bytes are multiplied only where there are instructions for them")
    }

    /// `sum` and the parts that [`Simd::dot_bytes`] made, as integers of 32 bits.
    ///
    /// # Panics
    /// As [`Simd::dot_bytes`].
    #[inline(always)]
    fn whole_sum(self, _part: Self::V, _sum: Self::V) -> Self::V {
        unreachable!("bytes are multiplied only where there are instructions for them")
    }

    /// The number nearest to the integer of 32 bits in every lane.
    #[inline(always)]
    fn of_integers(self, a: Self::V) -> Self::V {
        let mut all = [0.0; MAX_LANES];
        self.store(&mut all, a);
        self.load(&all.map(|v| v.to_bits().cast_signed() as f32))
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

    /// Rounds two vectors to bf16, one behind the other: each word of the result is a pair of neighbours.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    #[inline(always)]
    fn narrow(self, first: Self::V, second: Self::V) -> Self::V {
        let mut all = [0.0; 2 * MAX_LANES];
        self.store(&mut all, first);
        self.store(&mut all[Self::LANES..], second);
        let mut pairs = [0.0; MAX_LANES];
        for (to, x) in pairs.iter_mut().zip(all.chunks_exact(2)) {
            let [low, high] = [x[0], x[1]].map(|v| u32::from(bf16::from_f32(v).to_bits()));
            *to = f32::from_bits(low | high << 16);
        }
        self.load(&pairs)
    }

    /// Writes the value of a table that each number chooses by its lower four bits.
    #[inline(always)]
    fn choose(self, table: &[f32; 16], numbers: &[u8; 16], to: &mut [f32; 16]) {
        for (to, number) in to.iter_mut().zip(numbers) {
            *to = table[usize::from(number & 15)];
        }
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

    /// Rounds the first 32 numbers of 16 rows, `apart` numbers from each other, to bf16, two to a word with the first one in the lower
    /// half, and writes the rows' words of each pair side by side, at places `to_apart` from each other.
    #[inline(always)]
    fn columns_to_pairs(self, rows: &[f32], apart: usize, to: &mut [u32], to_apart: usize) {
        let mut square = [[0.0f32; 16]; 16];
        for (row, words) in square.iter_mut().enumerate() {
            let mut pairs = [0; 16];
            self.round_to_pairs(&rows[row * apart..][..32], &mut pairs);
            *words = pairs.map(f32::from_bits);
        }
        self.transpose(&mut square);
        for (pair, words) in square.iter().enumerate() {
            to[pair * to_apart..][..16].copy_from_slice(&words.map(f32::to_bits));
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
        assert!(x.len() <= Self::LANES);
        // SAFETY: `x` is as long as it is.
        unsafe { self.store_part_ptr(x.as_mut_ptr(), x.len(), v) }
    }

    /// To the first [`Simd::LANES`] places, which are initialised by it.
    #[inline(always)]
    fn write(self, x: &mut [MaybeUninit<f32>], v: Self::V) {
        assert!(x.len() >= Self::LANES);
        // SAFETY: just checked.
        unsafe { self.store_ptr(x.as_mut_ptr().cast(), v) }
    }

    /// The first `x.len()` lanes, at most [`Simd::LANES`], to places that are initialised by it.
    #[inline(always)]
    fn write_part(self, x: &mut [MaybeUninit<f32>], v: Self::V) {
        assert!(x.len() <= Self::LANES);
        // SAFETY: `x` is as long as it is.
        unsafe { self.store_part_ptr(x.as_mut_ptr().cast(), x.len(), v) }
    }
}

/// Numbers in the widest vector of all.
pub(crate) const MAX_LANES: usize = 16;

/// A number format that vectors are loaded from.
pub(crate) trait Stored: Copy + Send + Sync {
    /// # Safety
    /// `p` is good for reading a vector's worth of values.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on.
        unsafe { s.load_ptr(p) }
    }
}

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on.
        unsafe { s.load_f16_ptr(p) }
    }
}

impl Stored for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on.
        unsafe { s.load_bf16_ptr(p) }
    }
}
