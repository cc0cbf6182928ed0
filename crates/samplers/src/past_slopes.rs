//! The slopes of the last steps, for the samplers that step along a weighted sum of them.

use std::collections::VecDeque;

use core_tensor::{Latent, Tensor};

use crate::Step;

/// Up to so many slopes, the newest first.
#[derive(Clone, Debug)]
pub(crate) struct PastSlopes {
    most: usize,
    slopes: VecDeque<Tensor<4>>,
}

impl PastSlopes {
    /// Room for `most` slopes, at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, slopes: VecDeque::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slopes.len()
    }

    /// One more, in place of the oldest where there is no room.
    pub(crate) fn push(&mut self, slope: Tensor<4>) {
        self.slopes.truncate(self.most - 1);
        self.slopes.push_front(slope);
    }

    /// The levels that the slopes were taken at, the last of them that of the step `at`.
    pub(crate) fn levels(&self, at: Step) -> Vec<f64> {
        at.sigmas()[..=at.index()].iter().rev().take(self.len()).map(|&level| f64::from(level)).collect()
    }

    /// `x` and the slopes, each times its weight, in units of sigma.
    pub(crate) fn moved(&self, x: Latent, weights: impl IntoIterator<Item = f64>) -> Latent {
        Latent(self.slopes.iter().zip(weights).fold(x.0, |x, (slope, weight)| x + slope.clone() * weight as f32))
    }
}
