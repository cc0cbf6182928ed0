//! Weights that layers multiply with, and what is added to them.

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use super::{
    Branch, Factor, Socket,
    branches::{Branches, Place},
    chain::{Chain, Counting},
    joined::Pair,
};
use crate::{Error, Tensor, in_format_of, ops};

/// A weight of a layer: `y = W x + Σ strength · scale · up(mid(down x))`.
///
/// `F` is a [`Matrix`](super::Matrix) or a [`Convolution`](super::Convolution), in whatever number format and wherever it is held. Clones
/// share their branches.
#[derive(Clone, Debug)]
pub struct Weight<F> {
    pub(super) own: F,
    pub(super) branches: Arc<Branches<F>>,
}

/// What counts beside a weight now.
pub(crate) struct Beside<F> {
    /// One pair of factors, of all branches that are one.
    pub(super) pair: Option<Pair<F>>,
    pub(super) others: Counting<F>,
}

impl<F: Clone + Send + Sync + 'static> Weight<F> {
    /// A weight under branches that its source has.
    pub(super) fn under(own: F, place: Place<F>, branches: &[Branch]) -> Result<Self, Error> {
        let beside = Branches::at(place);
        beside.put("", branches)?;
        Ok(Self { own, branches: Arc::new(beside) })
    }

    /// Where further branches are put in.
    pub(super) fn socket(&self) -> Weak<dyn Socket> {
        let branches: Arc<dyn Socket> = self.branches.clone();
        Arc::downgrade(&branches)
    }

    /// The weight itself.
    pub(crate) fn own(&self) -> &F {
        &self.own
    }

    /// The weight, where no branch counts now.
    pub(crate) fn alone(&self) -> Option<&F> {
        (!self.branches.count()).then_some(&self.own)
    }

    /// Whether branches are in it, whatever their strength.
    pub(crate) fn has_branches(&self) -> bool {
        self.branches.are_any()
    }

    /// What counts beside it now.
    pub(crate) fn beside(&self) -> Beside<F> {
        let (pairs, mut others): (Counting<F>, _) =
            self.branches.counting().into_iter().partition(|(chain, _)| chain.pair().is_some());
        let joined = if pairs.is_empty() { None } else { self.branches.joined(&pairs) };
        let pair = joined.map(|joined| Pair::at(joined, &pairs));
        if pair.is_none() {
            others.splice(0..0, pairs);
        }
        Beside { pair, others }
    }

    /// What the branches that are no pair add to `y`.
    pub(super) fn others_onto<const D: usize>(&self, others: &Counting<F>, y: Tensor<D>, x: &Tensor<D>) -> Tensor<D>
    where
        F: Factor<D>,
    {
        others.iter().fold(y, |y, (chain, factor)| self.added(chain, x, *factor, y))
    }

    fn added<const D: usize>(&self, chain: &Chain<F>, x: &Tensor<D>, factor: f32, y: Tensor<D>) -> Tensor<D>
    where
        F: Factor<D>,
    {
        let (last, first) = self.branches.factors(chain).split_last().expect("a branch has a factor");
        let inner = first.iter().fold(x.clone(), |x, factor| factor.product(x));
        // Scaled where there are the fewest numbers.
        let inner = if chain.is_computed() { inner } else { inner.mul_scalar(factor) };
        add_rows(y, 1, chain.rows.clone(), last.product(inner))
    }
}

/// Why a pair without kernels is two weights.
pub(super) const PAIR: &str = "a pair is packed beside a matrix on the CPU alone";

/// `y` with `part` added to these of its places along a dimension.
pub(super) fn add_rows<const D: usize>(y: Tensor<D>, dim: usize, rows: Range<usize>, part: Tensor<D>) -> Tensor<D> {
    let shape = y.dims();
    if rows.len() == shape[dim] {
        return ops::add(y, part);
    }
    let place: [Range<usize>; D] = std::array::from_fn(|i| if i == dim { rows.clone() } else { 0..shape[i] });
    let sum = y.clone().slice(place.clone()) + in_format_of(part, &y);
    y.slice_assign(place, sum)
}
