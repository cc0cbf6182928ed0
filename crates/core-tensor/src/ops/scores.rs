//! What attention does between its two products.

use std::sync::Arc;

use burn::tensor::{Bool, Device, TensorData};

use crate::Tensor;

/// How attention's scores, the products of queries and keys, become weights.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// What they are multiplied with; `1 / sqrt(d)` where `None`.
    pub scale: Option<f64>,
    /// Added to them.
    pub bias: Option<Bias>,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// What attention adds to its scores.
#[derive(Clone, Debug)]
pub enum Bias {
    /// A number for each head, query and key, `[1, heads, q tokens, k tokens]`.
    Full(Tensor<4>),
    /// A number for each head and distance, `[heads, q tokens + k tokens - 1]`: query `q` and key `k` get number
    /// `k + q tokens - 1 - q` of their head.
    Relative(Tensor<2>),
}

/// Which keys a query sees.
#[derive(Clone, Debug, Default)]
pub enum Mask {
    /// All.
    #[default]
    None,
    /// Query `q` sees keys 0 to `q`.
    Causal,
    /// Every query of a batch entry sees the keys that are `true` in `[b, k tokens]`: one of each entry at least.
    Keys(Arc<[bool]>),
}

impl Mask {
    /// The first keys of each entry, for texts that are filled up to `tokens`.
    ///
    /// # Panics
    /// If a length is 0 or more than `tokens`.
    pub fn of_lengths(lengths: &[usize], tokens: usize) -> Self {
        assert!(lengths.iter().all(|length| (1..=tokens).contains(length)), "lengths {lengths:?} of {tokens} tokens");
        Self::Keys(lengths.iter().flat_map(|&length| (0..tokens).map(move |token| token < length)).collect())
    }

    /// Where a query does not see a key, `[b, heads, n, m]`; `None` where all see all.
    pub(super) fn hidden(&self, [b, heads, n, m]: [usize; 4], device: &Device) -> Option<Tensor<4, Bool>> {
        let (hidden, shape): (Vec<bool>, _) = match self {
            Mask::None => return None,
            Mask::Causal => ((0..n).flat_map(|q| (0..m).map(move |k| k > q)).collect(), [1, 1, n, m]),
            Mask::Keys(seen) => (seen.iter().map(|seen| !seen).collect(), [b, 1, 1, m]),
        };
        Some(Tensor::<4, Bool>::from_data(TensorData::new(hidden, shape), device).expand([b, heads, n, m]))
    }
}

impl Bias {
    /// A number for each head, query and key, `[1, heads, n, m]`.
    pub(super) fn full(&self, n: usize, m: usize) -> Tensor<4> {
        match self {
            Bias::Full(all) => all.clone(),
            // Each query's row begins one distance before the last one's.
            Bias::Relative(table) => {
                let rows = (0..n).map(|q| table.clone().narrow(1, n - 1 - q, m)).collect();
                Tensor::stack::<3>(rows, 1).unsqueeze() // 1 heads n m
            }
        }
    }
}

impl Scores {
    /// The scale for heads of `d` channels.
    pub(super) fn scale_of(&self, d: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (d as f64).sqrt())
    }
}
