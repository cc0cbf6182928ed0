//! Floats of eight bits, rounded as torch rounds them.

use core_tensor::Format;
use half::f16;
use rayon::prelude::*;

use crate::tables::e4m3_value;

/// The largest number of [`EightBits::E4m3`].
pub const LARGEST_E4M3: f32 = 448.0;
/// The largest number of [`EightBits::E5m2`].
pub const LARGEST_E5M2: f32 = 57_344.0;

/// A kind of floats of eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBits {
    /// Four bits of exponent, three of mantissa, no infinities.
    E4m3,
    /// Five bits of exponent, two of mantissa.
    E5m2,
}

impl EightBits {
    /// The format of its numbers.
    pub fn format(self) -> Format {
        match self {
            Self::E4m3 => Format::F8_E4M3,
            Self::E5m2 => Format::F8_E5M2,
        }
    }

    /// The largest number that there is.
    pub fn largest(self) -> f32 {
        match self {
            Self::E4m3 => LARGEST_E4M3,
            Self::E5m2 => LARGEST_E5M2,
        }
    }

    /// What a byte stands for.
    pub fn value(self, byte: u8) -> f32 {
        match self {
            Self::E4m3 => e4m3_value(byte),
            Self::E5m2 => f16::from_le_bytes([0, byte]).to_f32(),
        }
    }

    /// The nearest number to each weight divided by a scale, of two as near the even one. What is beyond the largest is the
    /// largest, or infinite where there are infinities.
    pub fn packed(self, weights: &[f32], scale: f32) -> Vec<u8> {
        let byte = match self {
            Self::E4m3 => e4m3,
            Self::E5m2 => e5m2,
        };
        weights.par_iter().with_min_len(1 << 14).map(|x| byte(x / scale)).collect()
    }
}

fn e4m3(x: f32) -> u8 {
    minifloat::<3, 7>(x, 464.0, 0x7e)
}

fn e5m2(x: f32) -> u8 {
    minifloat::<2, 15>(x, 65_536.0, 0x7c)
}

/// A float with so many bits of mantissa and this bias; from `beyond` on it is `overflow`.
fn minifloat<const MANTISSA: u32, const BIAS: u32>(x: f32, beyond: f32, overflow: u8) -> u8 {
    let (sign, magnitude) = ((x.to_bits() >> 24) as u8 & 0x80, x.abs());
    if magnitude.is_nan() {
        return sign | 0x7f;
    }
    if magnitude >= beyond {
        return sign | overflow;
    }
    let shift = 23 - MANTISSA;
    let smallest = f32::from_bits((128 - BIAS) << 23);
    if magnitude < smallest {
        // Subnormal: a whole number of the steps that the smallest normal numbers have.
        let steps = magnitude * f32::from_bits((127 + BIAS - 1 + MANTISSA) << 23);
        return sign | steps.round_ties_even() as u8;
    }
    let bits = magnitude.to_bits();
    let odd = bits >> shift & 1;
    let rounded = bits + ((1 << (shift - 1)) - 1) + odd - ((127 - BIAS) << 23);
    sign | (rounded >> shift) as u8
}
