//! Products with weights that are integers in their file: inputs become integers too, and only their sums become numbers again.
//!
//! A weight is `scale · code + shift`, with a scale and a shift for each [`GROUP`] of a row, as ggml's formats have them. Inputs are
//! rounded to integers of 15 bits and a sign, with a scale for each group: on a CPU whose widest exact product of integers is that of
//! pairs of 16 bits, fewer bits would be no faster. Sums of a group are exact, and the same at every level; they are added in f32.

use std::{fmt, ops::Range};

use crate::{
    aligned::{Aligned, Scratch},
    isa::{Isa, Level},
    packed::{each_panel, width},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Weights of a row that have a scale in common.
pub const GROUP: usize = 32;

/// The greatest magnitude of a code: with as many products of the greatest input, a sum is still an integer of 32 bits.
pub const MOST_CODE: i16 = 4096;

/// Columns that an [`IntegerSource`] is asked for at a time: the longest blocks of quantised weights.
pub const INTEGER_COLUMNS: usize = 256;

/// Where a matrix's integers come from.
pub trait IntegerSource: Sync {
    /// Writes the codes of row `row` from column `first` on, as many as `to` has room for, and their groups' scales and shifts. `first`
    /// and that room are multiples of [`INTEGER_COLUMNS`], but for what is left at the end of a row, which is whole groups.
    ///
    /// No code is greater than [`MOST_CODE`] in magnitude.
    fn read(&self, row: usize, first: usize, to: Integers);

    /// Whether any shift is not 0; where none is, `read` leaves them alone.
    fn has_shifts(&self) -> bool;
}

/// Places of weights `scale · code + shift`.
#[derive(Debug)]
pub struct Integers<'a> {
    /// An integer for each weight.
    pub codes: &'a mut [i16],
    /// A number for each [`GROUP`] of them.
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

/// Steps of a group: one is two inputs, the earlier one in the lower half of a word.
pub(crate) const STEPS: usize = GROUP / 2;

/// Outputs whose codes are brought into order together.
const SIDE: usize = 16;

impl Isa {
    /// Whether products with integers are worth asking for where the config leaves the choice: they are faster than those of f32 on
    /// vectors of 256 bits. Where there are instructions for bf16 those are the faster ones, and of the other levels nobody has
    /// measured it.
    pub fn prefers_integers(self) -> bool {
        self.level() == Level::Avx2
    }
}

impl<'a> IntegerMatrix<'a> {
    /// The matrix `[d_out, d_in]` of a source's rows.
    ///
    /// # Panics
    /// If a row is not made of whole groups.
    pub fn of(isa: Isa, [d_out, d_in]: [usize; 2], source: &'a dyn IntegerSource) -> Self {
        assert!(d_in.is_multiple_of(GROUP), "rows of {d_in} weights in groups of {GROUP}");
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

    /// Rows of words that a group of a panel takes: its steps, its scales, and its shifts where there are any.
    pub(crate) fn group_rows(self) -> usize {
        STEPS + 1 + usize::from(self.source.has_shifts())
    }

    /// Panels of [`width`] outputs, group after group; missing outputs are 0.
    pub(crate) fn panels(self, panels: Range<usize>) -> Aligned<u32> {
        let size = product("weights of a panel", [self.d_in / GROUP, self.group_rows(), width(self.isa)]);
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
        const GROUPS: usize = INTEGER_COLUMNS / GROUP;
        let Self { matrix, first, to } = self;
        let width = 2 * S::LANES;
        let record = matrix.group_rows() * width;
        let mut codes = Scratch::<i16>::of(SIDE * INTEGER_COLUMNS);
        let (mut scales, mut shifts) = ([[0.0; GROUPS]; SIDE], [[0.0; GROUPS]; SIDE]);
        for start in (0..matrix.d_in).step_by(INTEGER_COLUMNS) {
            let depth = INTEGER_COLUMNS.min(matrix.d_in - start);
            let groups = depth / GROUP;
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
                for group in 0..groups {
                    let to = &mut to[(start / GROUP + group) * record..][..record];
                    let mut square = [[0.0f32; 16]; SIDE];
                    for (o, words) in square.iter_mut().enumerate().take(outputs) {
                        let codes = &codes[o * INTEGER_COLUMNS + group * GROUP..][..GROUP];
                        for (word, pair) in words.iter_mut().zip(codes.as_chunks::<2>().0) {
                            *word = f32::from_bits(joined(*pair));
                        }
                    }
                    s.transpose(&mut square);
                    for (step, words) in square.iter().enumerate().take(STEPS) {
                        let to = &mut to[step * width + side..][..side_width];
                        to.copy_from_slice(&words.map(f32::to_bits)[..side_width]);
                    }
                    for o in 0..outputs {
                        to[STEPS * width + side + o] = scales[o][group].to_bits();
                        if matrix.source.has_shifts() {
                            to[(STEPS + 1) * width + side + o] = shifts[o][group].to_bits();
                        }
                    }
                }
            }
        }
    }
}

/// Two integers of 16 bits in a word, the first one in the lower half.
#[inline(always)]
pub(crate) fn joined([first, second]: [i16; 2]) -> u32 {
    u32::from(first.cast_unsigned()) | u32::from(second.cast_unsigned()) << 16
}
