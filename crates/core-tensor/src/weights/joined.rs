//! Branches of a small rank, one below and beside the other: one pair of factors for all of them.

use std::{ops::Range, sync::Arc};

use kernels::{PackedPair, ScaledPair};

use super::{Factor, Format, Stored, chain::Chain, stored::FLOATS};
use crate::{Tensor, in_format_of, ops, tensor};

/// The most that the ranks of a pair come to; beyond it one product is no cheaper than several.
const MOST_RANKS: usize = 1024;

/// How a pair of factors is held.
pub(super) enum Factors<F> {
    /// As weights: first what the input meets.
    Each([F; 2]),
    /// For the kernels of the CPU, which have its product in that of the weight.
    Packed(PackedPair),
}

/// Factors of several branches as one: `up · diag(scales) · down`.
pub(super) struct Joined<F> {
    of: Vec<Arc<Chain<F>>>,
    /// The rank of each.
    ranks: Vec<usize>,
    factors: Factors<F>,
}

/// A pair of factors, and how much each rank counts now.
pub(crate) struct Pair<F> {
    joined: Arc<Joined<F>>,
    scales: Vec<f32>,
}

impl<F> Joined<F> {
    /// One pair for these branches of a weight of so many rows; `None` where one is none itself, or all together are no small rank.
    pub(super) fn of(
        chains: &[(Arc<Chain<F>>, f32)],
        height: usize,
        hold: impl Fn([&Stored; 2]) -> Factors<F>,
    ) -> Option<Self> {
        let pairs: Vec<_> = chains.iter().map(|(chain, _)| chain.pair()).collect::<Option<_>>()?;
        let ranks: Vec<usize> = pairs.iter().map(|[down, _]| down.shape()[0]).collect();
        if ranks.iter().sum::<usize>() > MOST_RANKS {
            return None;
        }
        let rows = || chains.iter().map(|(chain, _)| chain.rows.clone());
        let (down, up) = match pairs[..] {
            [[down, up]] if up.shape()[0] == height => (down.clone(), up.clone()),
            _ => {
                let [downs, ups] = [0, 1].map(|i| pairs.iter().map(|pair| pair[i].clone()).collect::<Vec<_>>());
                // The first factors are one below the other, the last side by side, each in its rows.
                (Stored::stacked(&downs)?, beside(&ups, rows(), height))
            }
        };
        let factors = hold([&down, &up]);
        Some(Self { of: chains.iter().map(|(chain, _)| chain.clone()).collect(), ranks, factors })
    }

    /// Whether it is the pair of these.
    pub(super) fn is_of(&self, chains: &[(Arc<Chain<F>>, f32)]) -> bool {
        self.of.len() == chains.len() && self.of.iter().zip(chains).all(|(of, (chain, _))| Arc::ptr_eq(of, chain))
    }
}

impl<F> Pair<F> {
    pub(super) fn at(joined: Arc<Joined<F>>, chains: &[(Arc<Chain<F>>, f32)]) -> Self {
        let each = chains.iter().zip(&joined.ranks);
        let scales = each.flat_map(|((_, factor), &rank)| std::iter::repeat_n(*factor, rank)).collect();
        Self { joined, scales }
    }

    /// As the kernels of the CPU take it, where it is held for them.
    pub(super) fn packed(&self) -> Option<ScaledPair<'_>> {
        match &self.joined.factors {
            Factors::Packed(pair) => Some(ScaledPair { pair, scales: &self.scales }),
            Factors::Each(_) => None,
        }
    }

    /// What it adds to `y`; `None` where it is held for kernels that have it in the weight's product.
    pub(super) fn onto<const D: usize>(&self, y: Tensor<D>, x: Tensor<D>) -> Option<Tensor<D>>
    where
        F: Factor<D>,
    {
        match &self.joined.factors {
            Factors::Each([down, up]) => Some(ops::add(y, up.product(self.scaled(down.product(x))))),
            Factors::Packed(_) => None,
        }
    }

    /// What lies between the factors, whose ranks are along dimension 1, as much as each counts.
    fn scaled<const D: usize>(&self, inner: Tensor<D>) -> Tensor<D> {
        let first = self.scales.first().copied().unwrap_or(1.0);
        if self.scales.iter().all(|&scale| scale == first) {
            return if first == 1.0 { inner } else { inner.mul_scalar(first) };
        }
        let shape = std::array::from_fn(|i| if i == 1 { self.scales.len() } else { 1 });
        let scales = in_format_of(tensor::<D>(self.scales.clone(), shape, &inner.device()), &inner);
        inner * scales
    }
}

/// The last factors side by side, each in its rows.
fn beside(ups: &[Stored], rows: impl Iterator<Item = Range<usize>>, height: usize) -> Stored {
    let format = ups[0].format();
    let is_same = ups.iter().all(|up| up.format() == format && up.is_plain());
    let format = if is_same { format } else { Format::F32 };
    let (size, width) = (format.bytes(), ups.iter().map(|up| up.shape()[1]).sum::<usize>());
    let mut bytes = vec![0; height * width * size];
    let mut start = 0;
    for (up, rows) in ups.iter().zip(rows) {
        let part = match is_same {
            true => up.to_bytes(),
            false => up.to_f32().expect(FLOATS).iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let rank = up.shape()[1];
        for (row, part) in rows.zip(part.chunks(rank * size)) {
            bytes[(row * width + start) * size..][..rank * size].copy_from_slice(part);
        }
        start += rank;
    }
    Stored::of_bytes(format, vec![height, width, 1, 1], bytes).expect("there are as many bytes as the shape has")
}
