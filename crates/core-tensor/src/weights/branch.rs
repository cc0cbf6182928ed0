//! What is added to a weight that stays as it is.

use std::ops::Range;

use super::{
    Stored, Strength,
    computed::{Computed, Origin},
};
use crate::Error;

/// A change of a tensor: `strength · scale · change` is added to some of its rows.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The rows along the first dimension, which of a weight are outputs: the part of a query in a fused one, or all.
    pub rows: Range<usize>,
    /// What is added to them.
    pub change: Change,
    /// The adapter's own factor, such as `alpha / rank`.
    pub scale: f32,
    /// The user's factor.
    pub strength: Strength,
}

/// What is added to rows of a tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// `up · mid · down`, of matrices or of convolutions without bias. Of a convolution one factor has its kernel, and the others
    /// have 1 × 1.
    LowRank {
        /// `[rank, in]` or `[rank, in, kernel, kernel]`.
        down: Stored,
        /// `[rank, rank]` or `[rank, rank, kernel, kernel]`.
        mid: Option<Stored>,
        /// `[rows, rank]` or `[rows, rank, 1, 1]`.
        up: Stored,
    },
    /// A tensor of the rows' own shape.
    Difference(Stored),
    /// What is computed whenever a layer needs it, of a matrix or a convolution.
    Computed(Computed),
}

impl Branch {
    /// The same for a tensor in which this one's tensor begins at row `row`.
    #[must_use]
    pub fn behind(self, row: usize) -> Self {
        let rows = self.rows.start.saturating_add(row)..self.rows.end.saturating_add(row);
        Self { rows, ..self }
    }

    /// The part of the branch that changes these rows, counted from the first of them; `None` where it changes none. A branch whose
    /// change has another height than its rows stays whole, for the layer to refuse.
    ///
    /// # Errors
    /// [`Error::Rows`] where they can't be cut.
    pub fn within(&self, rows: Range<usize>) -> Result<Option<Self>, Error> {
        let (start, end) = (self.rows.start.max(rows.start), self.rows.end.min(rows.end));
        if start >= end {
            return Ok(None);
        }
        let height = match &self.change {
            Change::LowRank { up: last, .. } | Change::Difference(last) => last.shape().first().copied(),
            Change::Computed(computed) => Some(computed.height()),
        };
        if height != Some(self.rows.len()) {
            return Ok(Some(self.clone()));
        }
        let part = start - self.rows.start..end - self.rows.start;
        let cut = |all: &Stored| all.rows(part.clone());
        let change = match &self.change {
            Change::LowRank { down, mid, up } => Change::LowRank { down: down.clone(), mid: mid.clone(), up: cut(up)? },
            Change::Difference(all) => Change::Difference(cut(all)?),
            Change::Computed(all) => Change::Computed(all.rows_of(part.clone())),
        };
        Ok(Some(Self { rows: start - rows.start..end - rows.start, change, ..self.clone() }))
    }

    /// The tensors that it is made of, first what the input meets; none where it is computed.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Stored> {
        let [first, second, third] = match &self.change {
            Change::LowRank { down, mid, up } => [Some(down), mid.as_ref(), Some(up)],
            Change::Difference(all) => [Some(all), None, None],
            Change::Computed(_) => [None; 3],
        };
        [first, second, third].into_iter().flatten()
    }

    /// Finds out whether it is all numbers that can be computed with.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        match self.tensors().map(Stored::format).find(|format| !format.is_float()) {
            Some(found) => Err(Error::Format { name: name.to_owned(), source_name: "a branch".to_owned(), found }),
            None => Ok(()),
        }
    }

    /// Everything that its change is multiplied with, now.
    pub(super) fn factor(&self) -> f32 {
        self.scale * self.strength.get()
    }

    /// The factors of a change of a weight of this shape, first the one that the input meets, each as `[out, in, kernel, kernel]`.
    pub(super) fn factors(&self, name: &str, shape: &[usize]) -> Result<Vec<Origin>, Error> {
        if let Change::Computed(computed) = &self.change {
            let fits = shape.first().is_some_and(|&out| self.rows.end <= out)
                && computed.height() == self.rows.len()
                && computed.shape().get(1..) == shape.get(1..);
            let (computed, scale, strength) = (computed.clone(), self.scale, self.strength.clone());
            return match fits {
                true => Ok(vec![Origin::Computed { computed, scale, strength }]),
                false => Err(self.mismatch(name, shape)),
            };
        }
        let shapes: Option<Vec<[usize; 4]>> = self.tensors().map(|factor| square(factor.shape())).collect();
        let fits = square(shape).zip(shapes.as_ref()).is_some_and(|([out, d_in, kernel, _], shapes)| {
            let joined = shapes.windows(2).all(|pair| pair[0][0] == pair[1][1]);
            let ends = (shapes.first().map(|first| first[1]), shapes.last().map(|last| last[0]));
            let kernels = shapes.iter().map(|factor| factor[2]).filter(|&kernel| kernel != 1);
            joined
                && self.rows.end <= out
                && ends == (Some(d_in), self.rows.end.checked_sub(self.rows.start))
                && kernels.eq((kernel != 1).then_some(kernel))
        });
        match shapes.filter(|_| fits) {
            Some(shapes) => {
                let factors = self.tensors().cloned().zip(shapes);
                Ok(factors.map(|(factor, shape)| Origin::Stored(factor.reshape(shape.to_vec()))).collect())
            }
            None => Err(self.mismatch(name, shape)),
        }
    }

    /// The difference, of a tensor of this shape that nothing is multiplied with.
    pub(super) fn difference(&self, name: &str, shape: &[usize]) -> Result<&Stored, Error> {
        let Change::Difference(difference) = &self.change else { return Err(self.mismatch(name, shape)) };
        let fits = shape.first().is_some_and(|&rows| self.rows.end <= rows)
            && difference.shape().first().copied() == self.rows.end.checked_sub(self.rows.start)
            && difference.shape().get(1..) == shape.get(1..);
        if fits { Ok(difference) } else { Err(self.mismatch(name, shape)) }
    }

    fn mismatch(&self, name: &str, shape: &[usize]) -> Error {
        let found = match &self.change {
            Change::Computed(computed) => vec![computed.shape()],
            Change::LowRank { .. } | Change::Difference(_) => {
                self.tensors().map(|factor| factor.shape().to_vec()).collect()
            }
        };
        Error::Branch { name: name.to_owned(), shape: shape.to_vec(), rows: self.rows.clone(), found }
    }
}

/// A matrix as a convolution of 1 × 1, and a convolution of a square kernel as it is.
fn square(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [d_out, d_in] => Some([d_out, d_in, 1, 1]),
        [d_out, d_in, h, w] if h == w && h > 0 => Some([d_out, d_in, h, w]),
        _ => None,
    }
}
