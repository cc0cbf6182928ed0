//! Inputs of several products, rounded and put in order once.

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::{
    aligned::Aligned,
    elementwise::Activation,
    epilogue::{Epilogue, Finish, Rows},
    isa::Isa,
    kept::MatrixRef,
    norm::RowNorm,
    output::{Out, Output},
    packed::{PackedMatrix, Panels},
    size::product,
};

/// Rows of inputs as the kernel of [`PackedMatrix::takes_rows`] reads them.
#[derive(Debug)]
pub struct PackedRows {
    isa: Isa,
    rows: usize,
    d: usize,
    words: Aligned<u32>,
}

impl PackedMatrix {
    /// Whether it is multiplied with inputs that were packed before, see [`PackedRows`].
    pub fn takes_rows(&self) -> bool {
        matches!(self.panels(), Panels::Pairs(_)) && self.isa().level() == crate::Level::Amx
    }
}

impl PackedRows {
    /// Packs `rows` rows of `d` values, `stride` apart, for matrices that take them; of what `norm` makes of each row, where there is one.
    ///
    /// # Panics
    /// If `isa` has no tiles, or `x` or the norm does not fit the shape.
    pub fn pack(isa: Isa, norm: Option<RowNorm>, x: &[f32], [rows, d]: [usize; 2], stride: usize) -> Self {
        assert_eq!(isa.level(), crate::Level::Amx, "rows are packed for tiles");
        assert!(
            norm.is_none_or(|norm| norm.weight.len() == d && norm.bias.len() == d),
            "a weight and a bias for each of {d}"
        );
        let end = rows.checked_sub(1).map_or(Some(0), |n| n.checked_mul(stride).and_then(|n| n.checked_add(d)));
        assert!(end.is_some_and(|end| end <= x.len()), "{} values for rows [{rows}, {d}], {stride} apart", x.len());
        let input = Rows { x, stride, rows, d_in: d };
        #[cfg(target_arch = "x86_64")]
        let words = amx::rearranged(isa, input, norm);
        #[cfg(not(target_arch = "x86_64"))]
        let words = unreachable!("only x86 has tiles: {:?} {:?}", input.x.len(), norm);
        Self { isa, rows, d, words }
    }

    /// `[rows, d]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.d]
    }

    /// As [`linear`](crate::linear) of the rows.
    ///
    /// # Panics
    /// If the matrix does not take rows, or does not fit them, or `out` or a part of the epilogue does not fit the result.
    pub fn linear<'o, 'w>(&self, weight: impl Into<MatrixRef<'w>>, epilogue: Epilogue, out: Out<'o>) -> &'o mut [f32] {
        self.multiply(weight.into(), epilogue, out)
    }

    fn multiply<'o>(&self, weight: MatrixRef, epilogue: Epilogue, out: Out<'o>) -> &'o mut [f32] {
        let (rows, d_out) = (self.rows, weight.d_out());
        self.check(weight);
        assert_eq!(out.len(), product("results", [rows, d_out]), "values for a result [{rows}, {d_out}]");
        if out.is_empty() {
            return &mut [];
        }
        let finish = Finish::of(epilogue, rows, d_out);
        let out = Output::of(out, d_out);
        #[cfg(target_arch = "x86_64")]
        return match weight {
            MatrixRef::Packed(matrix) => amx::multiply(self.isa, pairs(matrix), &self.words, self.shape(), finish, out),
            MatrixRef::Kept(matrix) => amx::multiply_kept(self.isa, matrix, &self.words, self.shape(), finish, out),
        };
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("only x86 has tiles: {}", {
            _ = finish;
            out.width()
        })
    }

    /// `(x · valueᵀ + bias) · activation(x · gateᵀ + bias)`, packed for the next product: what lies between the two halves of a gated
    /// feed-forward layer, of which nothing else is kept. `biases` are those of the value and of the gate.
    ///
    /// # Panics
    /// If the matrices don't take rows, or don't fit them or each other, or a bias does not fit.
    pub fn gated<'w>(
        &self,
        [value, gate]: [impl Into<MatrixRef<'w>>; 2],
        biases: [Option<&[f32]>; 2],
        activation: Activation,
    ) -> Self {
        self.gated_by([value.into(), gate.into()], biases, activation)
    }

    fn gated_by(&self, both: [MatrixRef; 2], biases: [Option<&[f32]>; 2], activation: Activation) -> Self {
        let d = both[0].d_out();
        assert_eq!(both[1].d_out(), d, "a gate for each value");
        assert!(biases.iter().flatten().all(|bias| bias.len() == d), "a bias for each of {d} outputs");
        both.iter().for_each(|matrix| self.check(*matrix));
        #[cfg(target_arch = "x86_64")]
        let words = {
            let panels = both.map(|matrix| match matrix {
                MatrixRef::Packed(matrix) => amx::Panels::Packed(pairs(matrix)),
                MatrixRef::Kept(matrix) => amx::Panels::Kept(matrix),
            });
            amx::gated(self.isa, panels, &self.words, self.shape(), d, biases, activation)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let words = unreachable!("only x86 has tiles: {activation:?}");
        Self { isa: self.isa, rows: self.rows, d, words }
    }

    fn check(&self, weight: MatrixRef) {
        assert_eq!(weight.d_in(), self.d, "inputs of a matrix [{}, {}]", weight.d_out(), weight.d_in());
        assert!(weight.takes_rows(), "a matrix for vectors takes no packed rows");
    }
}

/// The panels of a matrix that takes packed rows.
#[cfg(target_arch = "x86_64")]
fn pairs(matrix: &PackedMatrix) -> &[u32] {
    match matrix.panels() {
        Panels::Pairs(panels) => panels,
        Panels::F32(_) | Panels::F16(_) | Panels::Bf16(_) => unreachable!("such a matrix takes no packed rows"),
    }
}
