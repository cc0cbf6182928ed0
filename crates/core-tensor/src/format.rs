//! Number formats: how the weights of a tensor lie in their bytes.

use std::{
    borrow::Cow,
    fmt,
    ops::{Deref, RangeInclusive},
};

use kernels::{GROUP, Integers, Isa};

use crate::bits::{BitForm, Field, Number, Scale, Shift, Steps, Whole};

/// A number format, open to whoever implements [`BlockFormat`]. Two of one name are the same.
#[derive(Clone, Copy)]
pub struct Format(pub &'static dyn BlockFormat);

/// How weights lie in bytes: in blocks of the same number of weights and bytes, one after the other along the last dimension.
pub trait BlockFormat: Send + Sync {
    /// What the format is called, in messages and where formats are compared.
    fn name(&self) -> &'static str;

    /// How many weights a block holds; at least 1.
    fn weights(&self) -> usize;

    /// How many bytes a block takes; at least 1.
    fn bytes(&self) -> usize;

    /// How blocks become weights; `None` where they are no numbers that a model can be computed with, such as integers.
    fn unpack(&self) -> Option<Unpack>;

    /// A product with a matrix that stays in this format, where there is one that beats unpacking; used on the CPU.
    fn product(&self) -> Option<Product> {
        None
    }

    /// How its weights are read as integers, where they are some: used on the CPU in [`Compute::Integers`](crate::Compute::Integers).
    fn integers(&self) -> Option<IntegerForm> {
        None
    }

    /// Where their bits are, for devices other than the CPU, which then hold matrices as they are stored; `None` where those are unpacked
    /// before they are brought there. What it says is what [`BlockFormat::unpack`] does.
    fn bits(&self) -> Option<BitForm> {
        None
    }
}

/// How weights are read as `scale · code + shift`, with a scale and a shift for each group of a row.
#[derive(Clone, Copy, Debug)]
pub struct IntegerForm {
    /// Writes codes, scales and shifts of whole blocks, for exactly which there is room; all of it is whole groups.
    pub read: fn(blocks: &[u8], to: Integers),
    /// Weights of a group: [`kernels::GROUP`], or [`kernels::HALF_GROUP`] where nothing beside the blocks scales them.
    pub group: usize,
    /// Whether any shift is not 0; where none is, they are not written.
    pub has_shifts: bool,
    /// The least code that there may be.
    pub least: i16,
    /// The greatest one; neither is greater than [`kernels::MOST_CODE`] in magnitude.
    pub most: i16,
}

impl IntegerForm {
    /// The codes that there may be.
    pub fn codes(self) -> RangeInclusive<i16> {
        self.least..=self.most
    }
}

/// Writes the weights of whole blocks. `weights` has room for exactly those of `blocks`.
pub type Unpack = fn(blocks: &[u8], weights: &mut [f32]);

/// `out = x · matrixᵀ` of a matrix `[d_out, d_in]` of whole blocks, for `x` `[rows, d_in]` and `out` `[rows, d_out]`, both
/// row-major. Runs on the current rayon pool, and gives the same bits for any number of threads.
pub type Product = fn(matrix: &[u8], d_in: usize, x: &[f32], out: &mut [f32]);

/// A format that nothing computes with.
macro_rules! opaque {
    ($name:literal, $weights:literal, $bytes:literal) => {
        Format(&Opaque { name: $name, weights: $weights, bytes: $bytes })
    };
}

impl Format {
    /// IEEE double precision; read as the nearest f32.
    pub const F64: Self = Self(&Float { name: "F64", bytes: 8, unpack: f64s, steps: None });
    /// IEEE single precision.
    pub const F32: Self = Self(&Float { name: "F32", bytes: 4, unpack: f32s, steps: None });
    /// IEEE half precision.
    pub const F16: Self = Self(&Float { name: "F16", bytes: 2, unpack: f16s, steps: Some(Steps::F16) });
    /// The upper half of an f32.
    pub const BF16: Self = Self(&Float { name: "BF16", bytes: 2, unpack: bf16s, steps: Some(Steps::Bf16) });
    /// Truth values, a byte each.
    pub const BOOL: Self = opaque!("BOOL", 1, 1);
    /// Unsigned bytes.
    pub const U8: Self = opaque!("U8", 1, 1);
    /// Signed bytes.
    pub const I8: Self = opaque!("I8", 1, 1);
    /// Unsigned integers of 16 bits.
    pub const U16: Self = opaque!("U16", 1, 2);
    /// Signed integers of 16 bits.
    pub const I16: Self = opaque!("I16", 1, 2);
    /// Unsigned integers of 32 bits.
    pub const U32: Self = opaque!("U32", 1, 4);
    /// Signed integers of 32 bits.
    pub const I32: Self = opaque!("I32", 1, 4);
    /// Unsigned integers of 64 bits.
    pub const U64: Self = opaque!("U64", 1, 8);
    /// Signed integers of 64 bits.
    pub const I64: Self = opaque!("I64", 1, 8);
    /// Complex numbers, two f32 each.
    pub const C64: Self = opaque!("C64", 1, 8);
    /// Floats of 4 bits, two in a byte.
    pub const F4: Self = opaque!("F4", 2, 1);
    /// Floats of 6 bits, four in three bytes.
    pub const F6_E2M3: Self = opaque!("F6_E2M3", 4, 3);
    /// The same with a larger range.
    pub const F6_E3M2: Self = opaque!("F6_E3M2", 4, 3);
    /// Floats of 8 bits, four of them for the exponent.
    pub const F8_E4M3: Self = opaque!("F8_E4M3", 1, 1);
    /// Floats of 8 bits, five of them for the exponent.
    pub const F8_E5M2: Self = opaque!("F8_E5M2", 1, 1);
    /// Powers of two.
    pub const F8_E8M0: Self = opaque!("F8_E8M0", 1, 1);
    /// `F8_E4M3` without infinities and a negative zero.
    pub const F8_E4M3FNUZ: Self = opaque!("F8_E4M3FNUZ", 1, 1);
    /// `F8_E5M2` without infinities and a negative zero.
    pub const F8_E5M2FNUZ: Self = opaque!("F8_E5M2FNUZ", 1, 1);

    /// The format of tensors that are one together: theirs where it is one, and F32 where several are of floats; `None` where one of
    /// several is not, and where there are no tensors.
    pub fn in_common(formats: impl IntoIterator<Item = Self>) -> Option<Self> {
        let of_two = |a: Self, b: Self| match a == b && a.is_float() == b.is_float() {
            true => Some(a),
            false => (a.is_float() && b.is_float()).then_some(Self::F32),
        };
        let mut formats = formats.into_iter();
        let first = formats.next()?;
        formats.try_fold(first, of_two)
    }

    /// Whether a model can be computed with its weights.
    pub fn is_float(self) -> bool {
        self.unpack().is_some()
    }

    /// How rows of so many weights are read as integers; `None` where they are none, or a row is not made of whole blocks and
    /// [`kernels::GROUP`]s, of which there is at least one.
    pub fn integers_in_rows_of(self, width: usize) -> Option<IntegerForm> {
        let is_whole = width > 0 && width.is_multiple_of(GROUP) && width.is_multiple_of(self.weights());
        self.integers().filter(|_| is_whole)
    }

    /// How many bytes so many weights take; `None` where they are no whole number of blocks, or more than 64 bits can count.
    pub fn size(self, weights: u64) -> Option<u64> {
        let per_block = self.weights() as u64;
        let blocks = weights.is_multiple_of(per_block).then_some(weights / per_block)?;
        blocks.checked_mul(self.bytes() as u64)
    }

    /// How many bytes a tensor of this shape takes; `None` as with [`Format::size`], and where one that holds nothing has sides whose bits
    /// can't be counted without the empty one, as code does that goes row by row.
    pub fn size_of(self, shape: &[usize]) -> Option<u64> {
        let sides = shape.iter().filter(|&&side| side > 0).try_fold(1u64, |n, &side| n.checked_mul(side as u64))?;
        match shape.contains(&0) {
            false => self.size(sides),
            true => sides.checked_mul(64).and(self.size(0)),
        }
    }
}

impl Deref for Format {
    type Target = dyn BlockFormat;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Floats that lie one after the other.
struct Float {
    name: &'static str,
    bytes: usize,
    unpack: Unpack,
    /// What a device's own reading of 16 bits is.
    steps: Option<Steps>,
}

impl BlockFormat for Float {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weights(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn unpack(&self) -> Option<Unpack> {
        Some(self.unpack)
    }

    fn bits(&self) -> Option<BitForm> {
        let number = Number { low: Field::pairs(), high: None, steps: self.steps? };
        Some(BitForm { number, scale: Scale::of(Whole::One), shift: Shift::None, beside: false })
    }
}

/// What is no number that a model can be computed with.
struct Opaque {
    name: &'static str,
    weights: usize,
    bytes: usize,
}

impl BlockFormat for Opaque {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weights(&self) -> usize {
        self.weights
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn unpack(&self) -> Option<Unpack> {
        None
    }
}

fn f64s(bytes: &[u8], weights: &mut [f32]) {
    each(bytes, weights, |bytes| f64::from_le_bytes(bytes) as f32);
}

fn f32s(bytes: &[u8], weights: &mut [f32]) {
    each(bytes, weights, f32::from_le_bytes);
}

fn f16s(bytes: &[u8], weights: &mut [f32]) {
    kernels::widen_f16(Isa::best(), bytes, weights);
}

fn bf16s(bytes: &[u8], weights: &mut [f32]) {
    each(bytes, weights, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16));
}

fn each<const N: usize>(bytes: &[u8], weights: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    kernels::each_block(Isa::best(), bytes, weights, kernels::Numbers(value));
}

/// Little-endian numbers, where they lie if that is at an address for numbers of their size.
pub(super) fn numbers<T: bytemuck::Pod, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) if cfg!(target_endian = "little") => Cow::Borrowed(numbers),
        _ => Cow::Owned(bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_any_address() {
        let bytes: Vec<u8> = [1.0f32, -2.5, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        for shift in 0..4 {
            let shifted: Vec<u8> = [vec![0; shift], bytes.clone()].concat();
            assert_eq!(*numbers(&shifted[shift..], f32::from_le_bytes), [1.0, -2.5, 3.0]);
        }
    }

    #[test]
    fn a_size_is_that_of_whole_blocks_or_none() {
        assert_eq!(Format::F4.size(6), Some(3));
        assert_eq!(Format::F4.size(7), None);
        assert_eq!(Format::F6_E2M3.size_of(&[3, 4]), Some(9));
        assert_eq!(Format::F64.size(u64::MAX), None);
        assert_eq!(Format::F32.size_of(&[usize::MAX, usize::MAX]), None);
        assert_eq!(Format::F32.size_of(&[1 << 40, 0, 9]), Some(0));
        assert_eq!(Format::F32.size_of(&[usize::MAX, 0]), None);
        assert_eq!(Format::F16.size_of(&[0, 1 << 62, 3, 3]), None);
    }

    /// Blocks of some weights, a byte each, that are integers.
    struct Bytes(usize);

    impl BlockFormat for Bytes {
        fn name(&self) -> &'static str {
            "BYTES"
        }

        fn weights(&self) -> usize {
            self.0
        }

        fn bytes(&self) -> usize {
            self.0
        }

        fn unpack(&self) -> Option<Unpack> {
            None
        }

        fn integers(&self) -> Option<IntegerForm> {
            Some(IntegerForm { read: |_, _| {}, group: GROUP, has_shifts: false, least: 0, most: 0 })
        }
    }

    #[test]
    fn rows_are_integers_only_where_they_are_whole_groups_and_whole_blocks() {
        let are_integers = |format: Format, width: usize| format.integers_in_rows_of(width).is_some();
        let (narrow, wide) = (Format(&Bytes(16)), Format(&Bytes(8 * GROUP)));
        assert!(are_integers(narrow, GROUP) && are_integers(narrow, 3 * GROUP));
        assert!(!are_integers(narrow, 16) && !are_integers(narrow, GROUP + 16) && !are_integers(narrow, 0));
        assert!(are_integers(wide, 8 * GROUP) && !are_integers(wide, GROUP) && !are_integers(wide, 12 * GROUP));
        assert!(!are_integers(Format::F32, GROUP));
    }
}
