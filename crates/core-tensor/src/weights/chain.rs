//! A branch of a weight that a layer holds.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::{Stored, Strength, computed::Origin};

/// A branch, ready to be multiplied with.
pub(super) struct Chain<F> {
    pub(super) rows: Range<usize>,
    /// First the one that the input meets; there is at least one.
    pub(super) origins: Vec<Origin>,
    pub(super) factors: OnceLock<Vec<F>>,
    pub(super) scale: f32,
    pub(super) strength: Strength,
}

/// Branches, and how much each counts.
pub(super) type Counting<F> = Vec<(Arc<Chain<F>>, f32)>;

impl<F> Chain<F> {
    /// `down` and `up` of a pair of factors, of which only the first has a kernel.
    pub(super) fn pair(&self) -> Option<[&Stored; 2]> {
        match &self.origins[..] {
            [Origin::Stored(down), Origin::Stored(up)] if up.shape()[2..] == [1, 1] => Some([down, up]),
            _ => None,
        }
    }

    /// Whether its factor has scale and strength in it.
    pub(super) fn is_computed(&self) -> bool {
        matches!(self.origins[..], [Origin::Computed { .. }])
    }
}
