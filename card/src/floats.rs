//! Number formats and rounding.

use half::{bf16, f16};

/// Where a number goes that lies between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

pub(crate) fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

pub(crate) fn of_f32(value: f32) -> u64 {
    u64::from(value.to_bits())
}

pub(crate) fn bf16_of(bits: u64) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

pub(crate) fn of_bf16(value: f32) -> u64 {
    u64::from(bf16::from_f32(value).to_bits())
}

pub(crate) fn f16_of(bits: u64) -> f32 {
    f16::from_bits(bits as u16).to_f32()
}

pub(crate) fn of_f16(value: f32) -> u64 {
    u64::from(f16::from_f32(value).to_bits())
}

/// The f32 next to a number in a direction.
pub(crate) fn rounded(value: f64, rounding: Rounding) -> f32 {
    let nearest = value as f32;
    let is_above = f64::from(nearest) > value;
    let is_below = f64::from(nearest) < value;
    match rounding {
        Rounding::Nearest => nearest,
        Rounding::Down if is_above => nearest.next_down(),
        Rounding::Up if is_below => nearest.next_up(),
        Rounding::Zero if is_above && value > 0.0 => nearest.next_down(),
        Rounding::Zero if is_below && value < 0.0 => nearest.next_up(),
        Rounding::Down | Rounding::Up | Rounding::Zero => nearest,
    }
}

/// A whole number next to a number.
pub(crate) fn whole(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// Without numbers that are subnormal.
pub(crate) fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}
