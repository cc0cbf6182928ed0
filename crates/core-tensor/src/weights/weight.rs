//! Weights that layers multiply with, and what is added to them.

use std::ops::Range;

use super::{Branch, Change, Strength, computed::Origin};
use crate::{Error, Tensor, ops};

/// A weight of a layer: `y = W x + Σ strength · scale · up(mid(down x))`.
///
/// `F` is a [`Matrix`](super::Matrix) or a [`Convolution`](super::Convolution), in whatever number format and wherever it is held.
#[derive(Clone, Debug)]
pub struct Weight<F> {
    pub(super) own: F,
    pub(super) branches: Vec<Chain<F>>,
}

/// A branch, ready to be multiplied with.
#[derive(Clone, Debug)]
pub(super) struct Chain<F> {
    rows: Range<usize>,
    /// First the one that the input meets; there is at least one.
    pub(super) factors: Vec<F>,
    scale: f32,
    strength: Strength,
    /// Whether the factor has scale and strength in it.
    is_computed: bool,
}

/// What weights and their branches are made of.
pub trait Factor<const D: usize>: Clone {
    /// What it makes of an input. The outputs are along dimension 1.
    fn product(&self, x: Tensor<D>) -> Tensor<D>;
}

impl<F: Clone> Weight<F> {
    /// A weight `name` of this shape under branches, with `hold` for whatever it is multiplied with.
    pub(super) fn under(
        own: F,
        branches: &[Branch],
        (name, shape): (&str, &[usize]),
        hold: impl Fn(Origin) -> F,
    ) -> Result<Self, Error> {
        let chain = |branch: &Branch| {
            let factors = branch.factors(name, shape)?.into_iter().map(&hold).collect();
            let Branch { rows, scale, strength, change } = branch.clone();
            let is_computed = matches!(change, Change::Computed(_));
            Ok::<_, Error>(Chain { rows, factors, scale, strength, is_computed })
        };
        Ok(Self { own, branches: branches.iter().map(chain).collect::<Result<_, _>>()? })
    }

    /// The weight, where no branch counts now.
    pub(crate) fn alone(&self) -> Option<&F> {
        self.counting().next().is_none().then_some(&self.own)
    }

    /// The weight's product with `x`, and what the branches add to it.
    pub fn product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>
    where
        F: Factor<D>,
    {
        let y = self.own.product(x.clone());
        self.counting().fold(y, |y, (branch, factor)| branch.added(&x, factor, y))
    }

    /// The branches that count now, and how much.
    fn counting(&self) -> impl Iterator<Item = (&Chain<F>, f32)> {
        let now = |branch: &Chain<F>| branch.scale * branch.strength.get();
        self.branches.iter().map(move |branch| (branch, now(branch))).filter(|(_, factor)| *factor != 0.0)
    }
}

impl<F> Chain<F> {
    fn added<const D: usize>(&self, x: &Tensor<D>, factor: f32, y: Tensor<D>) -> Tensor<D>
    where
        F: Factor<D>,
    {
        let (last, first) = self.factors.split_last().expect("a branch has a factor");
        let inner = first.iter().fold(x.clone(), |x, factor| factor.product(x));
        // Scaled where there are the fewest numbers.
        let inner = if self.is_computed { inner } else { inner.mul_scalar(factor) };
        add_rows(y, 1, self.rows.clone(), last.product(inner))
    }
}

/// `y` with `part` added to these of its places along a dimension.
pub(super) fn add_rows<const D: usize>(y: Tensor<D>, dim: usize, rows: Range<usize>, part: Tensor<D>) -> Tensor<D> {
    let shape = y.dims();
    if rows.len() == shape[dim] {
        return ops::add(y, part);
    }
    let place: [Range<usize>; D] = std::array::from_fn(|i| if i == dim { rows.clone() } else { 0..shape[i] });
    let sum = y.clone().slice(place.clone()) + part;
    y.slice_assign(place, sum)
}
