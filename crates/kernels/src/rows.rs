//! Inputs of several products, rounded and put in order once.

#[cfg(target_arch = "x86_64")]
use crate::{amx, epilogue::Rows, pair::ScaledPair};
use crate::{
    elementwise::Activation,
    epilogue::{Epilogue, Finish},
    isa::Isa,
    norm::RowNorm,
    output::{Out, Output},
    packed::{PackedMatrix, Panels},
    pair::WithPair,
    size::product,
};

/// Rows of inputs as the kernel of [`PackedMatrix::takes_rows`] reads them, for products with some weights.
#[derive(Debug)]
pub struct PackedRows<'w> {
    isa: Isa,
    rows: usize,
    d: usize,
    weights: Vec<WithPair<'w>>,
    #[cfg(target_arch = "x86_64")]
    inputs: amx::Rearranged,
}

impl PackedMatrix {
    /// Whether it is multiplied with inputs that were packed before, see [`PackedRows`].
    pub fn takes_rows(&self) -> bool {
        matches!(self.panels(), Panels::Pairs(_)) && self.isa().level() == crate::Level::Amx
    }
}

impl<'w> PackedRows<'w> {
    /// Packs `rows` rows of `d` values, `stride` apart, for weights that take them; of what `norm` makes of each row, where there is one.
    ///
    /// # Panics
    /// If `isa` has no tiles, or `x`, the norm or a weight does not fit the shape, or a weight does not take rows.
    pub fn pack<W: Into<WithPair<'w>>>(
        isa: Isa,
        norm: Option<RowNorm>,
        x: &[f32],
        [rows, d]: [usize; 2],
        stride: usize,
        weights: impl IntoIterator<Item = W>,
    ) -> Self {
        Self::packed(isa, norm, x, [rows, d], stride, weights.into_iter().map(W::into).collect())
    }

    fn packed(
        isa: Isa,
        norm: Option<RowNorm>,
        x: &[f32],
        [rows, d]: [usize; 2],
        stride: usize,
        weights: Vec<WithPair<'w>>,
    ) -> Self {
        assert_eq!(isa.level(), crate::Level::Amx, "rows are packed for tiles");
        assert!(
            norm.is_none_or(|norm| norm.weight.len() == d && norm.bias.len() == d),
            "a weight and a bias for each of {d}"
        );
        let end = rows.checked_sub(1).map_or(Some(0), |n| n.checked_mul(stride).and_then(|n| n.checked_add(d)));
        assert!(end.is_some_and(|end| end <= x.len()), "{} values for rows [{rows}, {d}], {stride} apart", x.len());
        check(&weights, d);
        #[cfg(target_arch = "x86_64")]
        let input = Rows { x, stride, rows, d_in: d };
        Self {
            isa,
            rows,
            d,
            #[cfg(target_arch = "x86_64")]
            inputs: amx::Rearranged::of(isa, input, norm, pairs(&weights)),
            weights,
        }
    }

    /// `[rows, d]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.d]
    }

    /// As [`linear`](crate::linear) of the rows, by the weight of this place.
    ///
    /// # Panics
    /// If there is no such weight, or `out` or a part of the epilogue does not fit the result.
    pub fn linear<'o>(&self, which: usize, epilogue: Epilogue, out: Out<'o>) -> &'o mut [f32] {
        let weight = self.weights[which];
        let (rows, d_out) = (self.rows, weight.matrix().d_out());
        assert_eq!(out.len(), product("results", [rows, d_out]), "values for a result [{rows}, {d_out}]");
        if out.is_empty() {
            return &mut [];
        }
        let finish = Finish::of(epilogue, rows, d_out);
        let out = Output::of(out, d_out);
        #[cfg(target_arch = "x86_64")]
        return amx::multiply(self.isa, weight, (&self.inputs, which), self.shape(), finish, out);
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("only x86 has tiles: {}", {
            _ = finish;
            out.width()
        })
    }

    /// `(x · valueᵀ + bias) · activation(x · gateᵀ + bias)`, packed for the next products: what lies between the two halves of a gated
    /// feed-forward layer, of which nothing else is kept. `which` are the places of value and gate, and `biases` theirs.
    ///
    /// # Panics
    /// If there are no such weights, or they don't fit each other, a bias or the next ones.
    pub fn gated<'n, W: Into<WithPair<'n>>>(
        &self,
        which: [usize; 2],
        biases: [Option<&[f32]>; 2],
        activation: Activation,
        next: impl IntoIterator<Item = W>,
    ) -> PackedRows<'n> {
        self.gated_for(which, biases, activation, next.into_iter().map(W::into).collect())
    }

    fn gated_for<'n>(
        &self,
        which: [usize; 2],
        biases: [Option<&[f32]>; 2],
        activation: Activation,
        next: Vec<WithPair<'n>>,
    ) -> PackedRows<'n> {
        let both = which.map(|which| (self.weights[which], which));
        let [d, gates] = both.map(|(weight, _)| weight.matrix().d_out());
        assert_eq!(gates, d, "a gate for each value");
        assert!(biases.iter().flatten().all(|bias| bias.len() == d), "a bias for each of {d} outputs");
        check(&next, d);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = activation;
        PackedRows {
            isa: self.isa,
            rows: self.rows,
            d,
            #[cfg(target_arch = "x86_64")]
            inputs: amx::gated(self.isa, both, &self.inputs, self.shape(), d, biases, activation, pairs(&next)),
            weights: next,
        }
    }
}

fn check(weights: &[WithPair], d: usize) {
    for matrix in weights.iter().map(|weight| weight.matrix()) {
        assert_eq!(matrix.d_in(), d, "inputs of a matrix [{}, {}]", matrix.d_out(), matrix.d_in());
        assert!(matrix.takes_rows(), "a matrix for vectors takes no packed rows");
    }
}

#[cfg(target_arch = "x86_64")]
fn pairs<'a>(weights: &[WithPair<'a>]) -> impl Iterator<Item = Option<ScaledPair<'a>>> {
    weights.iter().map(|weight| weight.pair())
}
