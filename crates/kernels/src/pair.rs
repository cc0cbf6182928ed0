//! Pairs of factors of a small rank, whose product is added to that of a matrix while its sums are still in registers.

use std::sync::Arc;

use rayon::prelude::*;

use crate::{
    aligned::{Aligned, Scratch},
    integers::IntegerMatrix,
    isa::{Isa, Level},
    kept::{KeptMatrix, MatrixRef},
    packed::{Compute, DEPTH, PAIR_WIDTH, PackedMatrix, Values, narrow_pairs, unpack},
    simd::{Body, Simd, vectorize},
    size::{filled_up, product, sum},
};

/// Matrices `[d_out, rank]` and `[rank, d_in]`, ready to be multiplied with beside one of `[d_out, d_in]`: their product is never made.
/// Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct PackedPair(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    isa: Isa,
    compute: Compute,
    d_out: usize,
    rank: usize,
    d_in: usize,
    down: Down,
    up: Up,
}

/// What inputs are multiplied with first.
#[derive(Debug)]
enum Down {
    /// For [`SIDE`] ranks at a time, each pair of inputs' words of these ranks; the last ranks may be fewer. Inputs are filled up with 0 to
    /// a multiple of [`DEPTH`], and behind all is as much as a tile may read too far.
    Tiles(Aligned<u32>),
    Panels(PackedMatrix),
}

/// What makes outputs of that.
#[derive(Debug)]
pub(crate) enum Up {
    /// Panels of [`PAIR_WIDTH`] outputs: for each two ranks the outputs' words. Behind all is as much as a tile may read too far.
    Pairs(Aligned<u32>),
    Singles(PackedMatrix),
}

/// Ranks and outputs that are packed together.
const SIDE: usize = 16;

impl PackedPair {
    /// Packs `down` `[rank, d_in]` and `up` `[d_out, rank]`, row-major, to be computed as [`PackedMatrix::pack`] says.
    ///
    /// # Panics
    /// If the values don't fill the shape `[d_out, rank, d_in]`, or a size of it can't be counted.
    pub fn pack(isa: Isa, compute: Compute, [d_out, rank, d_in]: [usize; 3], [down, up]: [Values; 2]) -> Self {
        assert_eq!(down.len(), product("weights", [rank, d_in]), "values for a matrix [{rank}, {d_in}]");
        assert_eq!(up.len(), product("weights", [d_out, rank]), "values for a matrix [{d_out}, {rank}]");
        let is_pairs = compute.is_in_pairs(isa);
        let down = match is_pairs && isa.level() == Level::Amx {
            true => Down::Tiles(narrow_pairs(isa, down, [rank, d_in], SIDE)),
            false => Down::Panels(PackedMatrix::pack_narrow(isa, compute, rank, d_in, down)),
        };
        let up = match is_pairs {
            true => Up::Pairs(pack_up(isa, up, d_out, rank)),
            false => Up::Singles(PackedMatrix::pack(isa, compute, d_out, rank, up)),
        };
        Self(Arc::new(Packed { isa, compute, d_out, rank, d_in, down, up }))
    }

    /// `[d_out, rank, d_in]`
    pub fn shape(&self) -> [usize; 3] {
        [self.0.d_out, self.0.rank, self.0.d_in]
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        let down = match &self.0.down {
            Down::Tiles(words) => size_of_val(&**words),
            Down::Panels(matrix) => matrix.bytes(),
        };
        let up = match &self.0.up {
            Up::Pairs(words) => size_of_val(&**words),
            Up::Singles(matrix) => matrix.bytes(),
        };
        sum("bytes", [down, up])
    }

    /// The first factor, where it is for vectors.
    pub(crate) fn down(&self) -> Option<&PackedMatrix> {
        match &self.0.down {
            Down::Panels(matrix) => Some(matrix),
            Down::Tiles(_) => None,
        }
    }

    pub(crate) fn up(&self) -> &Up {
        &self.0.up
    }
}

#[cfg(target_arch = "x86_64")]
impl PackedPair {
    /// The panels of the first factor from their beginnings on, and how many ranks each has.
    pub(crate) fn downs(&self) -> impl Iterator<Item = (&[u32], usize)> {
        let Packed { rank, d_in, .. } = *self.0;
        let Down::Tiles(words) = &self.0.down else { unreachable!("a pair for vectors has no tiles") };
        let size = d_in.div_ceil(DEPTH) * (DEPTH / 2) * SIDE;
        (0..rank).step_by(SIDE).map(move |first| (&words[first / SIDE * size..], SIDE.min(rank - first)))
    }

    /// A panel of the last factor from its beginning on.
    #[inline(always)]
    pub(crate) fn up_from(&self, panel: usize) -> &[u32] {
        let Up::Pairs(words) = &self.0.up else { unreachable!("a pair for vectors has no tiles") };
        &words[panel * up_words(self.0.rank)..]
    }
}

/// Words of a panel of the last factor.
#[cfg(target_arch = "x86_64")]
fn up_words(rank: usize) -> usize {
    rank.div_ceil(2) * PAIR_WIDTH
}

/// A pair, and how much each of its ranks counts.
#[derive(Clone, Copy, Debug)]
pub struct ScaledPair<'a> {
    /// The factors.
    pub pair: &'a PackedPair,
    /// One number for each rank.
    pub scales: &'a [f32],
}

impl ScaledPair<'_> {
    pub(crate) fn rank(self) -> usize {
        self.pair.0.rank
    }
}

/// What rows are multiplied with: `x · matrixᵀ`, and `scales · (x · downᵀ) · upᵀ` where there is a pair.
#[derive(Clone, Copy, Debug)]
pub struct WithPair<'a> {
    matrix: MatrixRef<'a>,
    pair: Option<ScaledPair<'a>>,
}

impl<'a> WithPair<'a> {
    /// A matrix and what is added to it.
    ///
    /// # Panics
    /// If the pair is of another shape, or packed for other instructions or another number format, or has not a scale for each rank.
    pub fn new(matrix: impl Into<MatrixRef<'a>>, pair: Option<ScaledPair<'a>>) -> Self {
        let matrix = matrix.into();
        if let Some(ScaledPair { pair, scales }) = pair {
            let Packed { isa, compute, d_out, rank, d_in, .. } = *pair.0;
            assert_eq!([d_out, d_in], [matrix.d_out(), matrix.d_in()], "a pair beside a matrix of its shape");
            assert!(isa == matrix.isa() && compute == matrix.compute(), "a pair that is computed as its matrix");
            assert_eq!(scales.len(), rank, "scales for a rank");
        }
        Self { matrix, pair }
    }

    /// The matrix itself.
    pub fn matrix(self) -> MatrixRef<'a> {
        self.matrix
    }

    /// What is added to it.
    pub fn pair(self) -> Option<ScaledPair<'a>> {
        self.pair
    }
}

impl<'a> From<MatrixRef<'a>> for WithPair<'a> {
    fn from(matrix: MatrixRef<'a>) -> Self {
        Self { matrix, pair: None }
    }
}

impl<'a> From<&'a PackedMatrix> for WithPair<'a> {
    fn from(matrix: &'a PackedMatrix) -> Self {
        MatrixRef::from(matrix).into()
    }
}

impl<'a> From<KeptMatrix<'a>> for WithPair<'a> {
    fn from(matrix: KeptMatrix<'a>) -> Self {
        MatrixRef::from(matrix).into()
    }
}

impl<'a> From<IntegerMatrix<'a>> for WithPair<'a> {
    fn from(matrix: IntegerMatrix<'a>) -> Self {
        MatrixRef::from(matrix).into()
    }
}

fn pack_up(isa: Isa, values: Values, d_out: usize, rank: usize) -> Aligned<u32> {
    let panels = d_out.div_ceil(PAIR_WIDTH);
    let size = product("weights of a panel", [rank.div_ceil(2), PAIR_WIDTH]);
    let too_far = (filled_up("ranks", rank, DEPTH) / 2 - rank.div_ceil(2)) * PAIR_WIDTH;
    let mut words = Aligned::zeros(sum("weights", [product("weights", [panels, size]), too_far]));
    (words.par_chunks_mut(size.max(1)).take(panels).enumerate()).for_each(|(panel, to)| {
        let first = panel * PAIR_WIDTH;
        vectorize(isa, UpPanel { values, first, outputs: PAIR_WIDTH.min(d_out - first), rank, to });
    });
    words
}

/// Outputs from `first` on.
struct UpPanel<'a> {
    values: Values<'a>,
    first: usize,
    outputs: usize,
    rank: usize,
    to: &'a mut [u32],
}

impl Body for UpPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { values, first, outputs, rank, to } = self;
        let mut rows = Scratch::<f32>::of(SIDE * DEPTH);
        let mut words = [0; DEPTH / 2 * SIDE];
        for start in (0..rank).step_by(DEPTH) {
            let len = DEPTH.min(rank - start);
            let to = &mut to[start / 2 * PAIR_WIDTH..];
            for side in (0..outputs).step_by(SIDE) {
                rows.fill(0.0);
                for (o, row) in rows.chunks_exact_mut(DEPTH).enumerate().take(outputs - side) {
                    unpack(s, values, (first + side + o) * rank + start, &mut row[..len]);
                }
                s.columns_to_pairs(&rows, DEPTH, &mut words, SIDE);
                for (to, from) in to.chunks_exact_mut(PAIR_WIDTH).zip(words.chunks_exact(SIDE)).take(len.div_ceil(2)) {
                    to[side..][..SIDE].copy_from_slice(from);
                }
            }
        }
    }
}
