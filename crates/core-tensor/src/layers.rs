//! The layers that every model is built from, each loaded by name.

use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

use crate::{Error, Tensor, Weight, Weights};

pub use crate::weights::Table;

/// `y = x · weightᵀ + bias`.
#[derive(Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor<1>>,
    d_out: usize,
}

impl Linear {
    /// Loads `weight` `[d_out, d_in]` and `bias` `[d_out]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, d_in: usize, d_out: usize) -> Result<Self, Error> {
        Ok(Self { bias: Some(w.vector("bias", d_out)?), ..Self::load_unbiased(w, d_in, d_out)? })
    }

    /// Loads `weight` `[d_out, d_in]` alone.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load_unbiased(w: &Weights, d_in: usize, d_out: usize) -> Result<Self, Error> {
        Ok(Self { weight: w.weight("weight", [d_out, d_in])?, bias: None, d_out })
    }

    /// `[…, d_in]` to `[…, d_out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let d_in = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        shape[D - 1] = self.d_out;
        let y = self.weight.matmul(x.reshape([rows, d_in]));
        match &self.bias {
            Some(bias) => (y + bias.clone().unsqueeze()).reshape(shape),
            None => y.reshape(shape),
        }
    }
}

/// A two-dimensional convolution over `[b, c, h, w]`.
#[derive(Clone)]
pub struct Conv2d {
    weight: Tensor<4>,
    bias: Tensor<1>,
    padding: usize,
}

impl Conv2d {
    /// Loads `weight` `[c_out, c_in, kernel, kernel]` and `bias` `[c_out]`; the output has the input's size.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, c_in: usize, c_out: usize, kernel: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: w.tensor("weight", [c_out, c_in, kernel, kernel])?,
            bias: w.vector("bias", c_out)?,
            padding: kernel / 2,
        })
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [self.padding; 2], [1, 1], 1);
        module::conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

/// Layer normalisation over the last dimension, with scale and shift.
#[derive(Clone)]
pub struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[d]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, d: usize, eps: f64) -> Result<Self, Error> {
        Ok(Self { weight: w.vector("weight", d)?, bias: w.vector("bias", d)?, eps })
    }

    /// `[…, d]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.weight.clone(), Some(self.bias.clone()), self.eps)
    }
}

/// Root-mean-square normalisation over the last dimension.
#[derive(Clone)]
pub struct RmsNorm {
    scale: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    /// Loads the scale `[d]` under its own name, which differs between models.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, name: &str, d: usize, eps: f64) -> Result<Self, Error> {
        Ok(Self { scale: w.vector(name, d)?, eps })
    }

    /// `[…, d]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mean_square = x.clone().powi_scalar(2).mean_dim(D - 1);
        x / (mean_square + self.eps).sqrt() * self.scale.clone().unsqueeze()
    }
}

/// Normalisation over groups of channels and all pixels, with scale and shift per channel.
#[derive(Clone)]
pub struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Loads `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, channels: usize, groups: usize, eps: f64) -> Result<Self, Error> {
        Ok(Self { weight: w.vector("weight", channels)?, bias: w.vector("bias", channels)?, groups, eps })
    }

    /// `[b, c, h, w]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let rows = x.reshape([b * self.groups, c / self.groups * h * w]);
        let centred = rows.clone() - rows.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let normal = (centred / (variance + self.eps).sqrt()).reshape([b, c, h, w]);
        normal * self.weight.clone().reshape([1, c, 1, 1]) + self.bias.clone().reshape([1, c, 1, 1])
    }
}
