use kernels::Compute;

use crate::{
    Tensor, Weights,
    ops::{self, Bias, Mask, Scores},
};

/// Scaled dot-product attention over `[b, heads, tokens, d]`, in the number format of the model that it is part of.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    compute: Compute,
    scale: Option<f64>,
    causal: bool,
}

impl Attention {
    /// Attention among all tokens, with scores scaled by `1 / sqrt(d)`.
    pub fn of(w: &Weights) -> Self {
        Self { compute: w.compute(), scale: None, causal: false }
    }

    /// The same, with scores scaled by `scale`.
    pub fn scaled_by(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// The same, but a token sees only itself and those before it.
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// `softmax(q · kᵀ · scale) · v`.
    pub fn forward(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
        self.attend([q, k, v], None)
    }

    /// `softmax(q · kᵀ · scale + bias) · v`.
    pub fn forward_biased(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Bias) -> Tensor<4> {
        self.attend([q, k, v], Some(bias))
    }

    fn attend(&self, qkv: [Tensor<4>; 3], bias: Option<Bias>) -> Tensor<4> {
        let mask = if self.causal { Mask::Causal } else { Mask::None };
        ops::attend(self.compute, qkv, &Scores { scale: self.scale, bias, mask })
    }
}
