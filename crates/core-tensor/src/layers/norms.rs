use kernels::Affines;

use crate::{
    Error, Parameter, Tensor, Weights,
    cpu::{Values, isa},
    ops::{self, Activation, Rope, Stream},
    weights::F32,
};

/// Layer normalisation over the last dimension, with scale and shift.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Parameter<1>,
    bias: Parameter<1>,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[d]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, eps: f64) -> Result<Self, Error> {
        Ok(Self { weight: w.parameter("weight")?, bias: w.parameter("bias")?, eps })
    }

    /// Weight and bias, and what is added to a variance.
    pub(crate) fn parameters(&self) -> ([Values; 2], f32) {
        ([&self.weight, &self.bias].map(|p| Values::of(&p.value()).expect(F32)), self.eps as f32)
    }

    /// `[…, d]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::affine_layer_norm(x, &self.weight.value(), &self.bias.value(), self.eps)
    }
}

/// Root-mean-square normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    scale: Parameter<1>,
    eps: f64,
}

impl RmsNorm {
    /// Loads the scale `[d]` under its own name, which differs between models.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, name: &str, eps: f64) -> Result<Self, Error> {
        Ok(Self { scale: w.parameter(name)?, eps })
    }

    /// `[…, d]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::rms_norm(x, &self.scale.value(), self.eps)
    }

    /// Queries, keys and values, `[b, heads, tokens, d]`, of streams whose tokens follow one another, as one each: queries and keys are normed, by
    /// norms of each stream's own, and rotated.
    ///
    /// # Panics
    /// Without a stream, and if the norms differ in what they add to a mean square.
    pub fn heads_joined<const N: usize>(streams: [([&Self; 2], [Tensor<4>; 3]); N], pe: &Rope) -> [Tensor<4>; 3] {
        let eps = streams[0].0[0].eps;
        assert!(streams.iter().all(|(norms, _)| norms.iter().all(|norm| norm.eps == eps)), "norms of one model");
        let scales = streams.each_ref().map(|(norms, _)| norms.map(|norm| norm.scale.value()));
        let mut scales = scales.iter();
        let streams = streams.map(|(_, heads)| {
            let [query, key] = scales.next().expect("scales for each stream");
            Stream { heads, norms: [query, key] }
        });
        pe.heads_joined(streams, eps)
    }
}

/// Normalisation over groups of channels and all pixels, with scale and shift per channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Parameter<1>,
    bias: Parameter<1>,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Loads `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, groups: usize, eps: f64) -> Result<Self, Error> {
        Ok(Self { weight: w.parameter("weight")?, bias: w.parameter("bias")?, groups, eps })
    }

    /// `[b, c, h, w]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, None)
    }

    /// `silu(forward(x))`.
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, Some(Activation::Silu))
    }

    /// `activation(forward(x))`.
    pub(crate) fn forward_then(&self, x: Tensor<4>, activation: Option<Activation>) -> Tensor<4> {
        ops::group_norm(x, self.groups, &self.weight.value(), &self.bias.value(), self.eps, activation)
    }

    /// What it does to each channel of `b` maps that lie pixel by pixel.
    pub(crate) fn affines(&self, x: &[f32], b: usize) -> Affines {
        let [weight, bias] = [&self.weight, &self.bias].map(|p| Values::of(&p.value()).expect(F32));
        let channels = weight.len();
        let shape = [b, x.len().checked_div(b * channels).unwrap_or(0), channels];
        Affines::of_groups(isa(), x, shape, self.groups, &weight, &bias, self.eps as f32)
    }
}
