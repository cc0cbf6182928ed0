//! Where the bits of packed weights lie: what a device has to know to unpack each of them by itself.

use std::hash::{Hash, Hasher};

/// How a weight is read from the bits of its block: `scale · number ± shift`, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitForm {
    /// What is scaled.
    pub number: Number,
    /// What it is scaled by.
    pub scale: Scale,
    /// What is added to that.
    pub shift: Shift,
    /// Whether a tensor may have scales that lie elsewhere than in its blocks.
    pub beside: bool,
}

/// A small number, by its place in a block or among the parts of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// Its lower bits.
    pub low: Field,
    /// Those above them.
    pub high: Option<Field>,
    /// What they stand for.
    pub steps: Steps,
}

/// Some bits of each number of a row.
///
/// Number `i` has its bits in byte `at + i / span · run + i % run`: of `span` numbers the first `run` have a byte each, and the next `run` the
/// next bits of the same bytes. Numbers of 16 bits have two bytes each, one behind the other from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// How many bits.
    pub bits: u32,
    /// The first byte.
    pub at: u32,
    /// How many numbers lie in bytes side by side.
    pub run: u32,
    /// How many have the same bytes, in so many runs.
    pub span: u32,
    /// Whether the first run has the upper bits.
    pub upper_first: bool,
}

impl Field {
    /// Bits that fill the bytes from `at` on, where `run` bytes lie side by side; the first run of numbers has the lowest.
    pub const fn of(bits: u32, at: u32, run: u32) -> Self {
        Self { bits, at, run, span: run * (8 / bits), upper_first: false }
    }

    /// The same, and the first run has the upper bits.
    pub const fn upper_first(self) -> Self {
        Self { upper_first: true, ..self }
    }

    /// All bits of two bytes for each number.
    pub const fn pairs() -> Self {
        Self { bits: 16, at: 0, run: 1, span: 1, upper_first: false }
    }

    /// The same bits of each byte, one byte for each number: the lower ones, or with [`Field::upper_first`] the upper ones.
    pub const fn one_of_each(bits: u32, at: u32) -> Self {
        Self { bits, at, run: 1, span: 1, upper_first: false }
    }
}

/// What the bits of a number stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Steps {
    /// An integer: the least one, and those above it.
    From(i32),
    /// An integer of eight bits in two's complement.
    Signed,
    /// The f16 in two bytes, of which the field has the first.
    F16,
    /// The same of a bf16.
    Bf16,
    /// One of these.
    Of(Table),
}

/// Numbers that bits choose from.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub &'static [f32]);

impl Table {
    fn bits(self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|number| number.to_bits())
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.bits().eq(other.bits())
    }
}

impl Eq for Table {}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().for_each(|bits| bits.hash(state));
    }
}

/// What weights are multiplied with, or what is added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// What a block has one of.
    pub whole: Whole,
    /// What its parts have one of each, which is multiplied with that.
    pub part: Option<Part>,
}

impl Scale {
    /// One for each block.
    pub const fn of(whole: Whole) -> Self {
        Self { whole, part: None }
    }

    /// One for each part, of so many weights, of a block.
    pub const fn in_parts(whole: Whole, weights: u32, number: PartNumber) -> Self {
        Self { whole, part: Some(Part { weights, number }) }
    }
}

/// A number that a block has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whole {
    /// 1.
    One,
    /// The f16 at an even byte.
    Half(u32),
    /// The f32 at a byte whose number four divides, in blocks whose bytes it divides.
    Float(u32),
}

/// A number for each part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// How many weights a part has; a multiple of 4.
    pub weights: u32,
    /// Where its number is.
    pub number: PartNumber,
}

/// The number of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartNumber {
    /// By its place among the parts.
    Bits(Number),
    /// Two of six bits for each of eight parts, in the twelve bytes from here on, as ggml's `get_scale_min_k4` has them: those of the first
    /// four parts in one byte each, of the others four bits in a byte and two above the first ones'.
    Sixes {
        /// The first byte.
        at: u32,
        /// Whether it is the second of the two.
        is_second: bool,
    },
}

/// What is added to a scaled number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    /// Nothing.
    None,
    /// This.
    Plus(Scale),
    /// This is taken off.
    Minus(Scale),
}

/// What a scaled weight is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// f32, as which it is computed.
    No,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

/// Weights one after the other that have a scale in common, which lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Runs {
    /// How many.
    pub weights: usize,
    /// What a scaled weight is rounded to.
    pub round: Round,
}

impl BitForm {
    /// The tables that numbers are chosen from: that of the scale's parts, then that of the weights.
    pub(crate) fn tables(&self) -> [&'static [f32]; 2] {
        let of = |number: &Number| match number.steps {
            Steps::Of(Table(table)) => table,
            Steps::From(_) | Steps::Signed | Steps::F16 | Steps::Bf16 => &[],
        };
        let part = match self.scale.part {
            Some(Part { number: PartNumber::Bits(number), .. }) => of(&number),
            Some(Part { number: PartNumber::Sixes { .. }, .. }) | None => &[],
        };
        [part, of(&self.number)]
    }
}
