//! The exponential function and what is made of it, on vectors.

use crate::simd::Simd;

/// `e^x` of numbers up to 88, within 2e-7 of it for those near zero; far below zero, 0 or next to it. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // The bound first: where one operand is NaN, the second is taken.
    exp2(s, s.max(s.splat(-150.0), s.mul(x, s.splat(std::f32::consts::LOG2_E))))
}

/// `1 / (1 + 2^-x)`: the logistic function of `x · ln 2`. Whether NaN stays NaN is up to the level.
#[inline(always)]
pub(crate) fn sigmoid2<S: Simd>(s: S, x: S::V) -> S::V {
    // Up to 126, the power and its reciprocal are numbers of full precision.
    let power = exp2(s, s.within(s.sub(s.splat(0.0), x), 126.0));
    s.recip(s.add(s.splat(1.0), power))
}

/// `2^x` of finite numbers.
///
/// `x = n + r` with `n` whole and `r` in -0.5 to 0.5. The polynomial for `2^r` is 1 where `r` is 0 and has the least greatest relative
/// error of its degree, 9.1e-8 (found by linear programming).
#[inline(always)]
fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    #[allow(clippy::approx_constant, reason = "the last is near ln 2, but not it")]
    const POLYNOMIAL: [f32; 5] = [1.326_465_3e-3, 9.671_511e-3, 5.550_734e-2, 2.402_224_2e-1, 6.931_47e-1];
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(POLYNOMIAL[0]);
    for &coefficient in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    s.scale(s.fma(p, r, s.splat(1.0)), n)
}

/// `2^x` of finite numbers within 7.5e-5 of it, a twenty-fifth of what rounding to bf16 loses.
///
/// The polynomial of `2^r`, with `r` in 0 to 1, has the least greatest relative error of its degree (found by Remez' exchange).
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
#[inline(always)]
pub(crate) fn coarse_exp2<S: Simd>(s: S, x: S::V) -> S::V {
    const POLYNOMIAL: [f32; 4] = [7.802_452e-2, 2.260_671_6e-1, 6.958_335_6e-1, 9.999_252e-1];
    let r = s.fraction(x);
    let mut p = s.splat(POLYNOMIAL[0]);
    for &coefficient in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    s.scale_down(p, x, r)
}
