//! Products with weights that are integers in their file: inputs become integers too, and only their sums become numbers again.
//!
//! A weight is `scale · code + shift`, with a scale and a shift for each [`GROUP`] of a row, or for each half of one, as ggml's formats have
//! them. Inputs are rounded to integers too, with a scale for each group: to seven bits and a sign where codes span so few numbers that the
//! level multiplies bytes with them faster than words, else to 14 bits and a sign ([`Isa::most_input`]). Sums of a group are exact; they are
//! added in f32.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
};

use crate::{
    aligned::{Aligned, Scratch},
    isa::{Isa, Level},
    packed::{each_panel, width},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Weights of a row that have a scale in common. Some formats have one for each half of so many: [`HALF_GROUP`].
pub const GROUP: usize = 32;

/// Half of a [`GROUP`].
pub const HALF_GROUP: usize = GROUP / 2;

/// The greatest magnitude of a code: with as many products of the greatest input, a sum is still an integer of 32 bits.
pub const MOST_CODE: i16 = 4096;

/// Columns that an [`IntegerSource`] is asked for at a time: the longest blocks of quantised weights.
pub const INTEGER_COLUMNS: usize = 256;

/// Where a matrix's integers come from.
pub trait IntegerSource: Sync {
    /// Writes the codes of row `row` from column `first` on, as many as `to` has room for, and their groups' scales and shifts. `first`
    /// and that room are multiples of [`INTEGER_COLUMNS`], but for what is left at the end of a row, which is whole groups.
    ///
    /// No code is outside [`IntegerSource::codes`].
    fn read(&self, row: usize, first: usize, to: Integers);

    /// How many weights have a scale in common: [`GROUP`] or [`HALF_GROUP`].
    fn group(&self) -> usize {
        GROUP
    }

    /// The least and the greatest code that there may be, none greater than [`MOST_CODE`] in magnitude.
    fn codes(&self) -> RangeInclusive<i16>;

    /// Whether any shift is not 0; where none is, `read` leaves them alone.
    fn has_shifts(&self) -> bool;
}

/// Places of weights `scale · code + shift`.
#[derive(Debug)]
pub struct Integers<'a> {
    /// An integer for each weight.
    pub codes: &'a mut [i16],
    /// A number for each group of them.
    pub scales: &'a mut [f32],
    /// The same.
    pub shifts: &'a mut [f32],
}

/// A matrix `[d_out, d_in]` of integers, brought into its kernel's order in each product, in the caches.
#[derive(Clone, Copy)]
pub struct IntegerMatrix<'a> {
    isa: Isa,
    d_out: usize,
    d_in: usize,
    source: &'a dyn IntegerSource,
}

/// How the codes of a matrix are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// Two to a word, with inputs that are two to a word.
    Words,
    /// Four to a word as what they are above the least one, with inputs that are four to a word.
    Bytes {
        /// What is subtracted from codes.
        least: i16,
        /// Steps whose sums are exact, at most those of a group.
        exact: usize,
    },
}

impl Factors {
    /// Of codes at a level, in such groups.
    pub(crate) fn of(isa: Isa, codes: &RangeInclusive<i16>, group: usize) -> Self {
        let (least, span) = (*codes.start(), codes.end().abs_diff(*codes.start()));
        isa.byte_steps(span, group).map_or(Self::Words, |exact| Self::Bytes { least, exact })
    }

    /// Integers in a word.
    pub(crate) const fn per_word(self) -> usize {
        match self {
            Self::Words => 2,
            Self::Bytes { .. } => 4,
        }
    }

    /// Steps of a group: one is a word of each output and of each row.
    pub(crate) const fn steps_of(self, group: usize) -> usize {
        group / self.per_word()
    }

    /// What is subtracted from codes.
    pub(crate) fn least(self) -> i16 {
        match self {
            Self::Words => 0,
            Self::Bytes { least, .. } => least,
        }
    }

    /// The words of so many codes, of which there may be fewer or more.
    #[inline(always)]
    fn join(self, codes: &[i16], words: &mut [f32; SIDE]) {
        match self {
            Self::Words => {
                for (word, pair) in words.iter_mut().zip(codes.as_chunks().0) {
                    *word = f32::from_bits(joined(*pair));
                }
            }
            Self::Bytes { least, .. } => {
                let mut bytes = [0; 4 * SIDE];
                for (byte, code) in bytes.iter_mut().zip(codes) {
                    *byte = code.wrapping_sub(least) as u8;
                }
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                    *word = f32::from_bits(u32::from_le_bytes(*bytes));
                }
            }
        }
    }

    /// The greatest magnitude of an input. With [`MOST_CODE`] in all of a group the sum of words is less than 2^31, and of bytes it is a
    /// whole number of f32.
    pub(crate) const fn most_input(self) -> i16 {
        match self {
            Self::Words => 16_383,
            Self::Bytes { .. } => 127,
        }
    }
}

/// Outputs whose codes are brought into order together.
const SIDE: usize = 16;

impl Isa {
    /// Whether products with integers are worth asking for where the config leaves the choice: bytes on vectors are faster than f32, and
    /// than bf16. Tiles are faster than either, and NEON's products of words have not been measured.
    pub fn prefers_integers(self) -> bool {
        matches!(self.level(), Level::Avx2 | Level::Avx512 | Level::Avx512Bf16)
    }

    /// The greatest magnitude of the integers that inputs become for weights of such codes, in such groups.
    pub fn most_input(self, codes: &RangeInclusive<i16>, group: usize) -> i16 {
        Factors::of(self, codes, group).most_input()
    }

    /// Steps of [`Simd::dot_bytes`] whose sums are exact where the greatest code is so far above the least one; none where words are
    /// multiplied. Products of bytes are added to pairs and four by four: where that is done in 16 bits, 32,767 is the most of a pair.
    fn byte_steps(self, span: u16, group: usize) -> Option<usize> {
        match (self.level(), span, group) {
            (Level::Portable | Level::Neon, ..) => None,
            (Level::Avx2 | Level::Avx512, 0..=15, GROUP) => Some(8),
            (Level::Avx2 | Level::Avx512, 0..=31, _) => Some(4),
            (Level::Avx2 | Level::Avx512, 0..=63, HALF_GROUP) => Some(2),
            (Level::Avx2 | Level::Avx512, ..) => None,
            (Level::Avx512Bf16 | Level::Amx, 0..=255, _) => Some(group / 4),
            (Level::Avx512Bf16 | Level::Amx, ..) => None,
        }
    }
}

impl<'a> IntegerMatrix<'a> {
    /// The matrix `[d_out, d_in]` of a source's rows.
    ///
    /// # Panics
    /// If a row is not made of whole [`GROUP`]s, or the source's groups are of another size than those that there are.
    pub fn of(isa: Isa, [d_out, d_in]: [usize; 2], source: &'a dyn IntegerSource) -> Self {
        assert!(d_in.is_multiple_of(GROUP), "rows of {d_in} weights in groups of {GROUP}");
        assert!([GROUP, HALF_GROUP].contains(&source.group()), "groups of {}", source.group());
        Self { isa, d_out, d_in, source }
    }

    /// Rows of the matrix, which are the outputs.
    pub fn d_out(self) -> usize {
        self.d_out
    }

    /// Columns of the matrix, which are the inputs.
    pub fn d_in(self) -> usize {
        self.d_in
    }

    pub(crate) fn isa(self) -> Isa {
        self.isa
    }

    pub(crate) fn factors(self) -> Factors {
        Factors::of(self.isa, &self.source.codes(), self.group())
    }

    /// Weights of a group.
    pub(crate) fn group(self) -> usize {
        self.source.group()
    }

    /// Words that a group of a row or of an output takes.
    pub(crate) fn group_steps(self) -> usize {
        self.factors().steps_of(self.group())
    }

    /// Whether groups of a panel have shifts.
    pub(crate) fn has_shifts(self) -> bool {
        self.source.has_shifts()
    }

    /// Rows of words that a group of a panel takes: its steps, its scales, and its shifts where there are any.
    pub(crate) fn group_rows(self) -> usize {
        self.group_steps() + 1 + usize::from(self.has_shifts())
    }

    /// Panels of [`width`] outputs, group after group; missing outputs are 0.
    pub(crate) fn panels(self, panels: Range<usize>) -> Aligned<u32> {
        let size = product("weights of a panel", [self.d_in / self.group(), self.group_rows(), width(self.isa)]);
        each_panel(panels.len(), size, |i, to| {
            vectorize(self.isa, Panel { matrix: self, first: (panels.start + i) * width(self.isa), to });
        })
    }
}

impl fmt::Debug for IntegerMatrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { isa, d_out, d_in, source: _ } = self;
        write!(f, "IntegerMatrix {{ {d_out} x {d_in}, {isa:?} }}")
    }
}

/// The outputs from `first` on, as many as a panel has.
struct Panel<'a, 'w> {
    matrix: IntegerMatrix<'w>,
    first: usize,
    to: &'a mut [u32],
}

impl Body for Panel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const GROUPS: usize = INTEGER_COLUMNS / HALF_GROUP;
        let Self { matrix, first, to } = self;
        let (width, factors, group_size) = (2 * S::LANES, matrix.factors(), matrix.group());
        let (steps, has_shifts) = (matrix.group_steps(), matrix.has_shifts());
        // Codes are told from the least one on: shifts make up for it where there are any, and else the inputs' sums.
        let (record, least) = (matrix.group_rows() * width, f32::from(factors.least()));
        let mut codes = Scratch::<i16>::of(SIDE * INTEGER_COLUMNS);
        let (mut scales, mut shifts) = ([[0.0; GROUPS]; SIDE], [[0.0; GROUPS]; SIDE]);
        for start in (0..matrix.d_in).step_by(INTEGER_COLUMNS) {
            let depth = INTEGER_COLUMNS.min(matrix.d_in - start);
            let groups = depth / group_size;
            for side in (0..width).step_by(SIDE) {
                let side_width = SIDE.min(width - side);
                let outputs = side_width.min(matrix.d_out.saturating_sub(first + side));
                for (o, codes) in codes.chunks_exact_mut(INTEGER_COLUMNS).enumerate().take(outputs) {
                    let (scales, shifts) = (&mut scales[o][..groups], &mut shifts[o][..groups]);
                    matrix.source.read(
                        first + side + o,
                        start,
                        Integers { codes: &mut codes[..depth], scales, shifts },
                    );
                }
                // As many groups together as have the words of a square.
                for some in (0..groups).step_by(SIDE / steps) {
                    let mut square = [[0.0f32; SIDE]; SIDE];
                    for (o, words) in square.iter_mut().enumerate().take(outputs) {
                        factors.join(&codes[o * INTEGER_COLUMNS + some * group_size..(o + 1) * INTEGER_COLUMNS], words);
                    }
                    s.transpose(&mut square);
                    for (words, group) in square.chunks_exact(steps).zip(some..groups) {
                        let to = &mut to[(start / group_size + group) * record..][..record];
                        for (to, words) in to.chunks_exact_mut(width).zip(words) {
                            to[side..][..side_width].copy_from_slice(&words.map(f32::to_bits)[..side_width]);
                        }
                        for o in 0..outputs {
                            to[steps * width + side + o] = scales[o][group].to_bits();
                            if has_shifts {
                                let shift = shifts[o][group] + scales[o][group] * least;
                                to[(steps + 1) * width + side + o] = shift.to_bits();
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Two integers of 16 bits in a word, the first one in the lower half.
#[inline(always)]
fn joined([first, second]: [i16; 2]) -> u32 {
    u32::from(first.cast_unsigned()) | u32::from(second.cast_unsigned()) << 16
}
