//! Matrices that stay as they are stored: a product has their values anew, a few rows at a time.

use std::{fmt, ops::Range};

use crate::{
    aligned::Scratch,
    integers::IntegerMatrix,
    isa::{Isa, Level},
    packed::{Compute, DEPTH, PAIR_WIDTH, PackedMatrix},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Where a kept matrix has its values from.
pub trait RowSource: Sync {
    /// Writes the values of row `row` from column `first` on, as many as `to` has room for. `first` and that room are multiples of
    /// [`KEPT_COLUMNS`], but for what is left at the end of a row.
    fn read(&self, row: usize, first: usize, to: &mut [f32]);
}

/// Columns that a [`RowSource`] is asked for at a time: the longest blocks of quantised weights.
pub const KEPT_COLUMNS: usize = 256;

/// A matrix `[d_out, d_in]` that is brought into its kernel's order in each product, in the caches: its product has the same bits as that
/// of a [`PackedMatrix`] of the same values.
#[derive(Clone, Copy)]
pub struct KeptMatrix<'a> {
    isa: Isa,
    compute: Compute,
    d_out: usize,
    d_in: usize,
    source: &'a dyn RowSource,
}

/// What rows are multiplied with.
#[derive(Clone, Copy, Debug)]
pub enum MatrixRef<'a> {
    /// In its kernel's order.
    Packed(&'a PackedMatrix),
    /// As it is stored.
    Kept(KeptMatrix<'a>),
    /// The same, of integers that inputs become, too.
    Integers(IntegerMatrix<'a>),
}

impl<'a> From<&'a PackedMatrix> for MatrixRef<'a> {
    fn from(matrix: &'a PackedMatrix) -> Self {
        Self::Packed(matrix)
    }
}

impl<'a> From<KeptMatrix<'a>> for MatrixRef<'a> {
    fn from(matrix: KeptMatrix<'a>) -> Self {
        Self::Kept(matrix)
    }
}

impl<'a> From<IntegerMatrix<'a>> for MatrixRef<'a> {
    fn from(matrix: IntegerMatrix<'a>) -> Self {
        Self::Integers(matrix)
    }
}

impl MatrixRef<'_> {
    /// Rows of the matrix, which are the outputs.
    pub fn d_out(self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.d_out(),
            Self::Kept(matrix) => matrix.d_out,
            Self::Integers(matrix) => matrix.d_out(),
        }
    }

    /// Columns of the matrix, which are the inputs.
    pub fn d_in(self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.d_in(),
            Self::Kept(matrix) => matrix.d_in,
            Self::Integers(matrix) => matrix.d_in(),
        }
    }

    /// Whether it is multiplied with inputs that were packed before, see [`PackedRows`](crate::PackedRows).
    pub fn takes_rows(self) -> bool {
        match self {
            Self::Packed(matrix) => matrix.takes_rows(),
            Self::Kept(matrix) => matrix.is_pairs() && matrix.isa.level() == Level::Amx,
            Self::Integers(_) => false,
        }
    }

    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Packed(matrix) => matrix.isa(),
            Self::Kept(matrix) => matrix.isa,
            Self::Integers(matrix) => matrix.isa(),
        }
    }

    pub(crate) fn compute(self) -> Compute {
        match self {
            Self::Packed(matrix) => matrix.compute(),
            Self::Kept(matrix) => matrix.compute,
            Self::Integers(_) => Compute::Integers,
        }
    }
}

/// Inputs that are had at a time.
const COLUMNS: usize = KEPT_COLUMNS;

/// Outputs whose values are brought into order together.
const SIDE: usize = 16;

impl<'a> KeptMatrix<'a> {
    /// The matrix `[d_out, d_in]` of a source's rows, computed as [`PackedMatrix::pack`] says.
    pub fn of(isa: Isa, compute: Compute, [d_out, d_in]: [usize; 2], source: &'a dyn RowSource) -> Self {
        Self { isa, compute, d_out, d_in, source }
    }

    /// Whether it is computed as pairs of bf16.
    pub(crate) fn is_pairs(self) -> bool {
        self.compute.is_in_pairs(self.isa)
    }

    /// Steps of [`DEPTH`] inputs from `steps` of a panel of pairs, as [`pack_pairs`](crate::packed::pack_pairs) has them.
    #[inline(always)]
    pub(crate) fn pairs<S: Simd>(self, s: S, panel: usize, steps: Range<usize>, to: &mut [u32]) {
        const WORDS: usize = DEPTH / 2 * PAIR_WIDTH;
        assert_eq!(to.len(), steps.len() * WORDS);
        let mut values = Scratch::<f32>::of(SIDE * COLUMNS);
        let first = panel * PAIR_WIDTH;
        let end = self.d_in.min(steps.end * DEPTH);
        for start in (steps.start * DEPTH..steps.end * DEPTH).step_by(COLUMNS) {
            let depth = COLUMNS.min(end.saturating_sub(start));
            let places = &mut to[(start / DEPTH - steps.start) * WORDS..];
            for side in (0..PAIR_WIDTH).step_by(SIDE) {
                let outputs = SIDE.min(self.d_out.saturating_sub(first + side));
                self.rows(first + side..first + side + outputs, start, depth, &mut values);
                for (i, to) in places.chunks_exact_mut(WORDS).take(COLUMNS / DEPTH).enumerate() {
                    s.columns_to_pairs(&values[i * DEPTH..], COLUMNS, &mut to[side..], PAIR_WIDTH);
                }
            }
        }
    }

    /// Inputs `steps` of a panel of `width` outputs, each input's side by side; missing outputs are 0.
    #[inline(always)]
    fn singles<S: Simd>(self, s: S, panel: usize, width: usize, to: &mut [f32]) {
        let mut values = Scratch::<f32>::of(SIDE * COLUMNS);
        let first = panel * width;
        for start in (0..self.d_in).step_by(COLUMNS) {
            let depth = COLUMNS.min(self.d_in - start);
            for side in (0..width).step_by(SIDE) {
                let side_width = SIDE.min(width - side);
                let outputs = side_width.min(self.d_out.saturating_sub(first + side));
                self.rows(first + side..first + side + outputs, start, depth, &mut values);
                for at in (0..depth).step_by(SIDE) {
                    let mut square = [[0.0f32; SIDE]; SIDE];
                    for (o, row) in square.iter_mut().enumerate() {
                        row.copy_from_slice(&values[o * COLUMNS + at..][..SIDE]);
                    }
                    s.transpose(&mut square);
                    for (i, column) in square.iter().enumerate().take(depth - at) {
                        to[(start + at + i) * width + side..][..side_width].copy_from_slice(&column[..side_width]);
                    }
                }
            }
        }
    }

    /// `depth` values from column `first` on of each of at most [`SIDE`] rows, [`COLUMNS`] apart; what is missing is 0.
    #[inline(always)]
    fn rows(self, rows: Range<usize>, first: usize, depth: usize, to: &mut [f32]) {
        let count = rows.len();
        for (row, to) in rows.zip(to.chunks_exact_mut(COLUMNS)) {
            if depth > 0 {
                self.source.read(row, first, &mut to[..depth]);
            }
            to[depth..].fill(0.0);
        }
        to[count * COLUMNS..].fill(0.0);
    }

    /// Values of a panel: of pairs, or of `width` outputs.
    pub(crate) fn panel_size(self, width: usize) -> usize {
        match self.is_pairs() {
            true => product("weights of a panel", [self.d_in.div_ceil(DEPTH), DEPTH / 2 * PAIR_WIDTH]),
            false => product("weights of a panel", [self.d_in, width]),
        }
    }

    /// A panel of pairs, all of whose steps are had.
    pub(crate) fn panel_of_pairs(self, panel: usize, to: &mut [u32]) {
        vectorize(self.isa, Pairs { matrix: self, panel, to });
    }

    /// A panel of `width` outputs.
    pub(crate) fn panel_of_singles(self, panel: usize, width: usize, to: &mut [f32]) {
        vectorize(self.isa, Singles { matrix: self, panel, width, to });
    }
}

struct Pairs<'a> {
    matrix: KeptMatrix<'a>,
    panel: usize,
    to: &'a mut [u32],
}

impl Body for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.matrix.pairs(s, self.panel, 0..self.matrix.d_in.div_ceil(DEPTH), self.to);
    }
}

struct Singles<'a> {
    matrix: KeptMatrix<'a>,
    panel: usize,
    width: usize,
    to: &'a mut [f32],
}

impl Body for Singles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.matrix.singles(s, self.panel, self.width, self.to);
    }
}

impl fmt::Debug for KeptMatrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { isa, compute, d_out, d_in, source: _ } = self;
        write!(f, "KeptMatrix {{ {d_out} x {d_in}, {compute:?}, {isa:?} }}")
    }
}
