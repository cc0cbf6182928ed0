//! Where the bits of weights are in each format, for devices that unpack them by themselves.
//!
//! The blocks are those that [`crate::formats`] and [`crate::decoded`] unpack on the CPU; a test holds each against that.

use core_tensor::{BitForm, Field, Number, PartNumber, Scale, Shift, Steps, Table, Whole};

use crate::tables::{E2M1, FP4_VALUES, NF4_VALUES, UNEVEN, e4m3_value, e5m2_value, half_of_e4m3, half_of_e8m0};

macro_rules! forms {
    ($($name:ident: $low:expr $(, $high:expr)?; $steps:expr; $scale:expr; $shift:expr;)*) => {
        $(pub(crate) const $name: BitForm = BitForm {
            number: number($low, [$(Some($high),)? None][0], $steps),
            scale: $scale,
            shift: $shift,
            beside: false,
        };)*
    };
}

forms! {
    Q4_0: Field::of(4, 2, 16); Steps::From(-8); whole(0); Shift::None;
    Q4_1: Field::of(4, 4, 16); Steps::From(0); whole(0); Shift::Plus(whole(2));
    Q5_0: Field::of(4, 6, 16), Field::of(1, 2, 1); Steps::From(-16); whole(0); Shift::None;
    Q5_1: Field::of(4, 8, 16), Field::of(1, 4, 1); Steps::From(0); whole(0); Shift::Plus(whole(2));
    Q8_0: Field::of(8, 2, 1); Steps::Signed; whole(0); Shift::None;
    Q2_K: Field::of(2, 16, 32); Steps::From(0);
        of_sixteens(80, number(Field::one_of_each(4, 0), None, Steps::From(0)));
        Shift::Minus(of_sixteens(82, number(Field::one_of_each(4, 0).upper_first(), None, Steps::From(0))));
    Q3_K: Field::of(2, 32, 32), Field::of(1, 0, 32); Steps::From(-4);
        of_sixteens(108, number(Field::of(4, 96, 8), Some(Field::of(2, 104, 4)), Steps::From(-32)));
        Shift::None;
    Q4_K: Field::of(4, 16, 32); Steps::From(0); sixes(0, false); Shift::Minus(sixes(2, true));
    Q5_K: Field::of(4, 48, 32), Field::of(1, 16, 32); Steps::From(0); sixes(0, false); Shift::Minus(sixes(2, true));
    Q6_K: Field::of(4, 0, 64), Field::of(2, 128, 32); Steps::From(-32);
        of_sixteens(208, number(Field::of(8, 192, 1), None, Steps::Signed));
        Shift::None;
    Q8_K: Field::of(8, 4, 1); Steps::Signed; Scale::of(Whole::Float(0)); Shift::None;
    IQ4_NL: Field::of(4, 2, 16); Steps::Of(Table(&UNEVEN)); whole(0); Shift::None;
    IQ4_XS: Field::of(4, 8, 16); Steps::Of(Table(&UNEVEN));
        Scale::in_parts(
            Whole::Half(0),
            32,
            PartNumber::Bits(number(Field::of(4, 4, 1), Some(Field::of(2, 2, 1)), Steps::From(-32))),
        );
        Shift::None;
    TQ2_0: Field::of(2, 0, 32); Steps::From(-1); whole(64); Shift::None;
    MXFP4: Field::of(4, 1, 16); Steps::Of(Table(&E2M1));
        Scale::in_parts(Whole::One, 32, PartNumber::Bits(number(Field::of(8, 0, 1), None, Steps::Of(Table(&HALVES_OF_E8M0)))));
        Shift::None;
    NVFP4: Field::of(4, 4, 8); Steps::Of(Table(&E2M1));
        Scale::in_parts(Whole::One, 16, PartNumber::Bits(number(Field::of(8, 0, 1), None, Steps::Of(Table(&HALVES_OF_E4M3)))));
        Shift::None;
}

pub(crate) const NF4: BitForm = beside(Field::of(4, 0, 1).upper_first(), Steps::Of(Table(&NF4_VALUES)));
pub(crate) const FP4: BitForm = beside(Field::of(4, 0, 1).upper_first(), Steps::Of(Table(&FP4_VALUES)));
pub(crate) const INT8: BitForm = beside(Field::of(8, 0, 1), Steps::Signed);
pub(crate) const E4M3: BitForm = beside(Field::of(8, 0, 1), Steps::Of(Table(&E4M3_VALUES)));
pub(crate) const E5M2: BitForm = beside(Field::of(8, 0, 1), Steps::Of(Table(&E5M2_VALUES)));

/// The values of bytes.
macro_rules! bytes {
    ($value:expr) => {{
        let mut values = [0.0; 256];
        let mut byte = 0;
        while byte < 256 {
            values[byte] = $value(byte as u8);
            byte += 1;
        }
        values
    }};
}

/// Halves of powers of two, as [`crate::formats`] has them for `MXFP4`.
const HALVES_OF_E8M0: [f32; 256] = bytes!(half_of_e8m0);
/// As [`crate::formats`] has them for `NVFP4`.
const HALVES_OF_E4M3: [f32; 256] = bytes!(half_of_e4m3);
const E4M3_VALUES: [f32; 256] = bytes!(e4m3_value);
const E5M2_VALUES: [f32; 256] = bytes!(e5m2_value);

const fn number(low: Field, high: Option<Field>, steps: Steps) -> Number {
    Number { low, high, steps }
}

/// Numbers whose scales lie beside their blocks.
const fn beside(low: Field, steps: Steps) -> BitForm {
    BitForm { number: number(low, None, steps), scale: Scale::of(Whole::One), shift: Shift::None, beside: true }
}

/// The f16 at a byte.
const fn whole(at: u32) -> Scale {
    Scale::of(Whole::Half(at))
}

/// The f16 at a byte, times a number for each 16 weights.
const fn of_sixteens(at: u32, number: Number) -> Scale {
    Scale::in_parts(Whole::Half(at), 16, PartNumber::Bits(number))
}

/// The f16 at a byte, times the first or the second number of six bits for each 32 weights.
const fn sixes(at: u32, is_second: bool) -> Scale {
    Scale::in_parts(Whole::Half(at), 32, PartNumber::Sixes { at: 4, is_second })
}
