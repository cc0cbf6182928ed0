//! Vectors without a CPU's own instructions.

use half::{bf16, f16};

use super::Simd;

/// Rust's own arithmetic, eight numbers at a time, which compilers turn into what the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

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
