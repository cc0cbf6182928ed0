//! What bits stand for where they are no integers.

/// What the four bits of `IQ4_NL` and `IQ4_XS` stand for (ggml, `kvalues_iq4nl`).
pub(crate) const UNEVEN: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// What four bits stand for, doubled: a sign, two bits of exponent, one of mantissa (OCP Microscaling Formats 1.0, E2M1).
pub(crate) const E2M1: [f32; 16] = [0., 1., 2., 3., 4., 6., 8., 12., 0., -1., -2., -3., -4., -6., -8., -12.];

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

/// Four bits of exponent, three of mantissa, no infinities (Micikevicius et al. 2022).
#[inline(always)]
pub(crate) const fn e4m3_value(byte: u8) -> f32 {
    let magnitude = byte as u32 & 0x7f;
    // The exponent is 120 less than that of an f32; without one, the mantissa counts 512ths.
    let value = if magnitude < 8 { magnitude as f32 / 512.0 } else { f32::from_bits((magnitude << 20) + (120 << 23)) };
    let value = if magnitude == 0x7f { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | (byte as u32 & 0x80) << 24)
}

/// Five bits of exponent, two of mantissa.
pub(crate) const fn e5m2_value(byte: u8) -> f32 {
    let magnitude = byte as u32 & 0x7f;
    let value = match magnitude {
        0..4 => magnitude as f32 / 65_536.0,
        4..0x7c => f32::from_bits((magnitude << 21) + (112 << 23)),
        _ => f32::from_bits(magnitude << 21 | 0xff << 23),
    };
    f32::from_bits(value.to_bits() | (byte as u32 & 0x80) << 24)
}

/// Half of 2 to the power of a byte less 127.
pub(crate) const fn half_of_e8m0(byte: u8) -> f32 {
    // The two lowest are subnormal.
    f32::from_bits(match byte {
        0 | 1 => 0x0020_0000 << byte,
        _ => (byte as u32 - 1) << 23,
    })
}

/// Half of an E4M3 whose sign is ignored; what is no number in it is 0.
pub(crate) const fn half_of_e4m3(byte: u8) -> f32 {
    let magnitude = byte as u32 & 0x7f;
    match (byte, magnitude) {
        (0x7f, _) => 0.0,
        (_, 0..8) => magnitude as f32 / 1024.0,
        // The exponent is 119 less than that of an f32.
        _ => f32::from_bits((magnitude << 20) + (119 << 23)),
    }
}
