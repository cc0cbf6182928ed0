//! What multiplies.

use crate::Tensor;

/// What weights and their branches are made of.
pub trait Factor<const D: usize>: Clone {
    /// What it makes of an input. The outputs are along dimension 1.
    fn product(&self, x: Tensor<D>) -> Tensor<D>;
}
