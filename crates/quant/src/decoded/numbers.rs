//! How single numbers of four and eight bits become f32, before they are scaled.

use core_tensor::{BlockFormat, Format, Unpack};
use half::f16;

struct Numbers {
    name: &'static str,
    weights: usize,
    unpack: Unpack,
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
}

/// Normal floats of four bits, two in a byte, as bitsandbytes has them; scaled by the largest value of their block.
pub const NF4: Format = Format(&Numbers { name: "NF4", weights: 2, unpack: |b, w| fours(b, w, &NF4_VALUES) });
/// Floats of four bits, likewise.
pub const FP4: Format = Format(&Numbers { name: "FP4", weights: 2, unpack: |b, w| fours(b, w, &FP4_VALUES) });
/// Integers of eight bits, as bitsandbytes has them; scaled by the largest value of their row.
pub const INT8: Format = Format(&Numbers { name: "INT8", weights: 1, unpack: int8 });
/// `F8_E4M3`, of which values can be read.
pub(crate) const E4M3: Format = Format(&Numbers { name: "F8_E4M3", weights: 1, unpack: e4m3 });
/// `F8_E5M2`, of which values can be read.
pub(crate) const E5M2: Format = Format(&Numbers { name: "F8_E5M2", weights: 1, unpack: e5m2 });

/// Quantiles of the normal distribution (Dettmers et al. 2023, appendix E).
pub(crate) const NF4_VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A sign, two bits of exponent and one of mantissa, as bitsandbytes orders them: twelfths.
pub(crate) const FP4_VALUES: [f32; 16] = {
    let mut values = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, 0.0, -0.0625, -8.0, -12.0, -4.0, -6.0, -2.0, -3.0];
    let mut i = 0;
    while i < 16 {
        values[i] /= 12.0;
        i += 1;
    }
    values
};

/// Two in a byte, the first one in the upper half.
fn fours(bytes: &[u8], weights: &mut [f32], values: &[f32; 16]) {
    for (&byte, pair) in bytes.iter().zip(weights.as_chunks_mut::<2>().0) {
        *pair = [values[usize::from(byte >> 4)], values[usize::from(byte & 15)]];
    }
}

fn int8(bytes: &[u8], weights: &mut [f32]) {
    for (&byte, weight) in bytes.iter().zip(weights) {
        *weight = f32::from(byte.cast_signed());
    }
}

fn e4m3(bytes: &[u8], weights: &mut [f32]) {
    for (&byte, weight) in bytes.iter().zip(weights) {
        *weight = E4M3_VALUES[usize::from(byte)];
    }
}

/// Four bits of exponent, three of mantissa, no infinities (Micikevicius et al. 2022).
pub(crate) static E4M3_VALUES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (exponent, mantissa) = ((byte >> 3 & 15) as u32, (byte & 7) as u32);
        let magnitude = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            (0, mantissa) => mantissa as f32 / 512.0,
            (exponent, mantissa) => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
        };
        values[byte] = if byte < 128 { magnitude } else { -magnitude };
        byte += 1;
    }
    values
};

/// Five bits of exponent, two of mantissa: the upper half of an f16.
fn e5m2(bytes: &[u8], weights: &mut [f32]) {
    for (&byte, weight) in bytes.iter().zip(weights) {
        *weight = f16::from_le_bytes([0, byte]).to_f32();
    }
}
