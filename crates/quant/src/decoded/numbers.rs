//! How single numbers of four and eight bits become f32, before they are scaled.

use core_tensor::{BitForm, BlockFormat, Format, IntegerForm, Unpack};
use kernels::{GROUP, Isa, MOST_CODE, each_integer_block};

use crate::{
    bits,
    tables::{FP4_VALUES, NF4_VALUES, e4m3_value},
};

struct Numbers {
    name: &'static str,
    weights: usize,
    unpack: Unpack,
    integers: Option<IntegerForm>,
    bits: BitForm,
}

impl BlockFormat for Numbers {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weights(&self) -> usize {
        self.weights
    }

    fn bytes(&self) -> usize {
        1
    }

    fn unpack(&self) -> Option<Unpack> {
        Some(self.unpack)
    }

    fn integers(&self) -> Option<IntegerForm> {
        self.integers
    }

    fn bits(&self) -> Option<BitForm> {
        Some(self.bits)
    }
}

/// Normal floats of four bits, two in a byte, as bitsandbytes has them; scaled by the largest value of their block.
pub const NF4: Format = Format(&Numbers {
    name: "NF4",
    weights: 2,
    unpack: |b, w| fours(b, w, &NF4_VALUES),
    integers: Some(IntegerForm {
        read: |b, to| codes_of_fours(b, to, &const { codes(&NF4_VALUES) }),
        has_shifts: false,
        least: -MOST_CODE,
        most: MOST_CODE,
    }),
    bits: bits::NF4,
});
/// Floats of four bits, likewise.
pub const FP4: Format = Format(&Numbers {
    name: "FP4",
    weights: 2,
    unpack: |b, w| fours(b, w, &FP4_VALUES),
    integers: Some(IntegerForm {
        read: |b, to| codes_of_fours(b, to, &const { codes(&FP4_VALUES) }),
        has_shifts: false,
        least: -MOST_CODE,
        most: MOST_CODE,
    }),
    bits: bits::FP4,
});
/// Integers of eight bits, as bitsandbytes has them; scaled by the largest value of their row.
pub const INT8: Format = Format(&Numbers {
    name: "INT8",
    weights: 1,
    unpack: int8,
    integers: Some(IntegerForm { read: codes_of_int8, has_shifts: false, least: -128, most: 127 }),
    bits: bits::INT8,
});
/// `F8_E4M3`, of which values can be read.
pub(crate) const E4M3: Format =
    Format(&Numbers { name: "F8_E4M3", weights: 1, unpack: e4m3, integers: None, bits: bits::E4M3 });
/// `F8_E5M2`, of which values can be read.
pub(crate) const E5M2: Format =
    Format(&Numbers { name: "F8_E5M2", weights: 1, unpack: e5m2, integers: None, bits: bits::E5M2 });

/// A table's values of at most 1, in steps of [`OF_MOST`].
const fn codes(values: &[f32; 16]) -> [i16; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        let value = values[i] * MOST_CODE as f32;
        codes[i] = (if value < 0.0 { value - 0.5 } else { value + 0.5 }) as i16;
        i += 1;
    }
    codes
}

/// What a code counts before it is scaled.
const OF_MOST: f32 = 1.0 / MOST_CODE as f32;

/// The same numbers as [`fours`], to a step of [`OF_MOST`].
fn codes_of_fours(bytes: &[u8], to: kernels::Integers, table: &[i16; 16]) {
    const BYTES: usize = GROUP / 2;
    each_integer_block::<BYTES, GROUP, 1>(Isa::best(), bytes, to, |bytes, codes, scale, _| {
        *scale = [OF_MOST];
        for (pair, byte) in codes.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [table[usize::from(byte >> 4)], table[usize::from(byte & 15)]];
        }
    });
}

fn codes_of_int8(bytes: &[u8], to: kernels::Integers) {
    each_integer_block::<GROUP, GROUP, 1>(Isa::best(), bytes, to, |bytes, codes, scale, _| {
        *scale = [1.0];
        *codes = bytes.map(|byte| i16::from(byte.cast_signed()));
    });
}

/// Two in a byte, the first one in the upper half.
fn fours(bytes: &[u8], weights: &mut [f32], values: &[f32; 16]) {
    const AT_ONCE: usize = 256;
    let isa = Isa::best();
    for (bytes, weights) in bytes.chunks(AT_ONCE / 2).zip(weights.chunks_mut(AT_ONCE)) {
        let mut numbers = [0; AT_ONCE];
        for (&byte, pair) in bytes.iter().zip(numbers.as_chunks_mut().0) {
            *pair = [byte >> 4, byte & 15];
        }
        kernels::choose(isa, values, &numbers[..weights.len()], weights);
    }
}

fn int8(bytes: &[u8], weights: &mut [f32]) {
    each(bytes, weights, |byte| f32::from(byte.cast_signed()));
}

fn e4m3(bytes: &[u8], weights: &mut [f32]) {
    each(bytes, weights, e4m3_value);
}

/// Of bytes that are the upper halves of f16.
fn e5m2(bytes: &[u8], weights: &mut [f32]) {
    const AT_ONCE: usize = 256;
    for (bytes, weights) in bytes.chunks(AT_ONCE).zip(weights.chunks_mut(AT_ONCE)) {
        let mut halves = [0; 2 * AT_ONCE];
        for (&byte, half) in bytes.iter().zip(halves.as_chunks_mut::<2>().0) {
            half[1] = byte;
        }
        kernels::widen_f16(Isa::best(), &halves, weights);
    }
}

fn each(bytes: &[u8], weights: &mut [f32], value: impl Fn(u8) -> f32) {
    kernels::each_block(Isa::best(), bytes, weights, |&[byte], weight: &mut [f32; 1]| weight[0] = value(byte));
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::tables::e5m2_value;

    #[test]
    fn every_float_of_eight_bits_has_the_value_that_its_parts_say() {
        let bytes: Vec<u8> = (0..=255).collect();
        let (mut fours, mut fives) = (vec![9.0; 256], vec![9.0; 256]);
        e4m3(&bytes, &mut fours);
        e5m2(&bytes, &mut fives);
        for byte in 0..=255u8 {
            let (sign, exponent, mantissa) = (byte >> 7, i32::from(byte >> 3 & 15), f64::from(byte & 7));
            let magnitude = match (exponent, byte & 7) {
                (15, 7) => f64::NAN,
                (0, _) => mantissa / 512.0,
                _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude } as f32;
            let found = fours[usize::from(byte)];
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{byte:x}");
            let expected = f16::from_bits(u16::from(byte) << 8).to_f32();
            for found in [fives[usize::from(byte)], e5m2_value(byte)] {
                assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{byte:x}");
            }
        }
    }
}
