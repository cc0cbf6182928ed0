//! Vectors of AArch64.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::{Body, Simd};

#[target_feature(enable = "neon")]
pub(super) unsafe fn run_neon<B: Body>(body: B) -> B::Output {
    body.run(Neon(()))
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
        dot_integers(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t = {
            let (a, b) = (vreinterpretq_s16_f32(a), vreinterpretq_s16_f32(b));
            let products = vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(sum), products))
        };
        of_integers(a: float32x4_t) -> float32x4_t = vcvtq_f32_s32(vreinterpretq_s32_f32(a));
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
