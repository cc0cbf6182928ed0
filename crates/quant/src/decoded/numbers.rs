//! How single numbers of four and eight bits become f32, before they are scaled.

use core_tensor::{BitForm, BlockFormat, Format, IntegerForm, Unpack};
use kernels::{GROUP, Isa, MOST_CODE, ReadIntegers, each_integer_block};

use crate::{
    bits,
    tables::{FP4_VALUES, NF4_VALUES, e4m3_value},
};

struct Numbers {
    name: &'static str,
    weights: usize,
    unpack: Unpack,
    /// How they are read as integers: as the first of which this machine multiplies bytes, or else as the last.
    integers: &'static [IntegerForm],
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
        let are_bytes = |form: &&IntegerForm| Isa::best().most_input(&form.codes(), form.group) <= i8::MAX.into();
        self.integers.iter().find(are_bytes).or(self.integers.last()).copied()
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
    integers: &[
        of_fours(|b, to| codes_of_fours(b, to, &const { Codes::of(&NF4_VALUES, NF4_STEPS) }), NF4_STEPS),
        of_fours(|b, to| codes_of_fours(b, to, &const { Codes::of(&NF4_VALUES, MOST_CODE) }), MOST_CODE),
    ],
    bits: bits::NF4,
});
/// Floats of four bits, likewise.
pub const FP4: Format = Format(&Numbers {
    name: "FP4",
    weights: 2,
    unpack: |b, w| fours(b, w, &FP4_VALUES),
    integers: &[
        of_fours(|b, to| codes_of_fours(b, to, &const { Codes::of(&FP4_VALUES, FP4_STEPS) }), FP4_STEPS),
        of_fours(|b, to| codes_of_fours(b, to, &const { Codes::of(&FP4_VALUES, MOST_CODE) }), MOST_CODE),
    ],
    bits: bits::FP4,
});
/// Integers of eight bits, as bitsandbytes has them; scaled by the largest value of their row.
pub const INT8: Format = Format(&Numbers {
    name: "INT8",
    weights: 1,
    unpack: int8,
    integers: &[IntegerForm { read: codes_of_int8, group: GROUP, has_shifts: false, least: -128, most: 127 }],
    bits: bits::INT8,
});
/// `F8_E4M3`, of which values can be read.
pub(crate) const E4M3: Format =
    Format(&Numbers { name: "F8_E4M3", weights: 1, unpack: e4m3, integers: &[], bits: bits::E4M3 });
/// `F8_E5M2`, of which values can be read.
pub(crate) const E5M2: Format =
    Format(&Numbers { name: "F8_E5M2", weights: 1, unpack: e5m2, integers: &[], bits: bits::E5M2 });

/// Steps up to the greatest value of `NF4` as a byte: of 64 to 127 so many are nearest to its values, by the mean of the squares.
const NF4_STEPS: i16 = 112;

/// The same of `FP4`.
const FP4_STEPS: i16 = 120;

/// Numbers of four bits as codes from -`most` to `most`.
const fn of_fours(read: fn(&[u8], kernels::Integers), most: i16) -> IntegerForm {
    IntegerForm { read, group: GROUP, has_shifts: false, least: -most, most }
}

/// A table's values of at most 1 in whole steps.
struct Codes {
    codes: [i16; 16],
    step: f32,
}

impl Codes {
    /// In so many steps to 1.
    const fn of(values: &[f32; 16], steps: i16) -> Self {
        let mut codes = [0; 16];
        let mut i = 0;
        while i < 16 {
            let value = values[i] * steps as f32;
            codes[i] = (if value < 0.0 { value - 0.5 } else { value + 0.5 }) as i16;
            i += 1;
        }
        Self { codes, step: 1.0 / steps as f32 }
    }
}

/// The same numbers as [`fours`], to half a step.
fn codes_of_fours(bytes: &[u8], to: kernels::Integers, table: &Codes) {
    each_integer_block(Isa::best(), bytes, to, table);
}

impl ReadIntegers<{ GROUP / 2 }, GROUP, 1> for &Codes {
    #[inline(always)]
    fn read(&self, bytes: &[u8; GROUP / 2], codes: &mut [i16; GROUP], scale: &mut [f32; 1], _: &mut [f32; 1]) {
        *scale = [self.step];
        for (pair, byte) in codes.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [self.codes[usize::from(byte >> 4)], self.codes[usize::from(byte & 15)]];
        }
    }
}

fn codes_of_int8(bytes: &[u8], to: kernels::Integers) {
    struct Bytes;

    impl ReadIntegers<GROUP, GROUP, 1> for Bytes {
        #[inline(always)]
        fn read(&self, bytes: &[u8; GROUP], codes: &mut [i16; GROUP], scale: &mut [f32; 1], _: &mut [f32; 1]) {
            *scale = [1.0];
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = i16::from(byte.cast_signed());
            }
        }
    }

    each_integer_block(Isa::best(), bytes, to, Bytes);
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
    kernels::each_block(Isa::best(), bytes, weights, kernels::Numbers(|[byte]: [u8; 1]| value(byte)));
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

    #[test]
    fn no_other_number_of_steps_is_nearer_to_a_table_in_bytes() {
        for (values, chosen) in [(&NF4_VALUES, NF4_STEPS), (&FP4_VALUES, FP4_STEPS)] {
            let off = |steps: i16| {
                let Codes { codes, step } = Codes::of(values, steps);
                values
                    .iter()
                    .zip(codes)
                    .map(|(v, code)| (f64::from(*v) - f64::from(code) * f64::from(step)).powi(2))
                    .sum::<f64>()
            };
            let best = (64..=127).min_by(|a, b| off(*a).total_cmp(&off(*b)));
            assert_eq!(best, Some(chosen));
        }
    }
}
