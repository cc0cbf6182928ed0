//! The layers that every model is built from, each loaded by name.

mod downsample;

use burn::tensor::{module, ops::ConvOptions};
use kernels::{Compute, ConvEpilogue, Epilogue};

use crate::{
    Error, Filter, Tensor, Weight, Weights,
    cpu::{self, Values},
    ops::{self, Activation, Bias, Mask, Rope, Scores},
    weights::{F32, multiply},
};

pub use self::downsample::Downsample;
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

    /// Loads layers of these outputs that are stored as one, `weight` `[sum of d_out, d_in]` and `bias` `[sum of d_out]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load_stacked<const N: usize>(w: &Weights, d_in: usize, d_out: [usize; N]) -> Result<[Self; N], Error> {
        let weights = w.weights("weight", d_out, d_in)?;
        let bias = w.vectors("bias", d_out)?;
        let mut parts = weights.into_iter().zip(bias);
        Ok(d_out.map(|d_out| {
            let (weight, bias) = parts.next().expect("a weight and a bias for each layer");
            Self { weight, bias: Some(bias), d_out }
        }))
    }

    /// `[…, d_in]` to `[…, d_out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.weight {
            Weight::Panels(weight) => {
                multiply(weight, &x, Epilogue { bias: self.bias().as_deref(), ..Epilogue::default() })
            }
            Weight::Dense(_) | Weight::Packed(_) => self.composed(x),
        }
    }

    /// `f(forward(x))`.
    pub fn forward_then<const D: usize>(&self, x: Tensor<D>, f: Activation) -> Tensor<D> {
        match &self.weight {
            Weight::Panels(weight) => {
                let bias = self.bias();
                let epilogue = Epilogue { bias: bias.as_deref(), activation: Some(f), ..Epilogue::default() };
                multiply(weight, &x, epilogue)
            }
            Weight::Dense(_) | Weight::Packed(_) => ops::activate(f, self.composed(x)),
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        match &self.weight {
            Weight::Panels(weight) => {
                let (bias, residual) = (self.bias(), Values::of(&residual).expect(F32));
                let epilogue = Epilogue { bias: bias.as_deref(), residual: Some(&residual), ..Epilogue::default() };
                multiply(weight, &x, epilogue)
            }
            Weight::Dense(_) | Weight::Packed(_) => ops::add(residual, self.composed(x)),
        }
    }

    /// `residual + gate · forward(x)`, with a gate for each of the batch, `[b, 1, d_out]`.
    pub fn forward_gated_onto(&self, x: Tensor<3>, gate: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        match &self.weight {
            Weight::Panels(weight) => {
                let (bias, gate, residual) = (self.bias(), Values::of(&gate), Values::of(&residual));
                let (gate, residual) = (Some(&*gate.expect(F32)), Some(&*residual.expect(F32)));
                multiply(weight, &x, Epilogue { bias: bias.as_deref(), gate, residual, ..Epilogue::default() })
            }
            Weight::Dense(_) | Weight::Packed(_) => residual + gate * self.composed(x),
        }
    }

    fn bias(&self) -> Option<Values> {
        self.bias.as_ref().map(|bias| Values::of(bias).expect(F32))
    }

    fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
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

/// Scaled dot-product attention over `[b, heads, tokens, d]`, in the number format of the model that it is part of.
#[derive(Clone, Copy)]
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

/// A two-dimensional convolution over `[b, c, h, w]`.
#[derive(Clone)]
pub struct Conv2d {
    filter: Filter,
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
            filter: w.filter("weight", c_out, c_in, kernel)?,
            bias: w.vector("bias", c_out)?,
            padding: kernel / 2,
        })
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.filter {
            Filter::Panels(conv) => self.convolve(conv, x, None),
            Filter::Dense(weight) => self.composed(weight, x),
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        match &self.filter {
            Filter::Panels(conv) => self.convolve(conv, x, Some(residual)),
            Filter::Dense(weight) => residual + self.composed(weight, x),
        }
    }

    fn convolve(&self, conv: &kernels::PackedConv, x: Tensor<4>, residual: Option<Tensor<4>>) -> Tensor<4> {
        let [b, _, h, w] = x.dims();
        let [c_out, _, _] = conv.shape();
        let (x, bias) = (Values::of(&x).expect(F32), Values::of(&self.bias).expect(F32));
        let residual = residual.map(|residual| Values::of(&residual).expect(F32));
        let epilogue = ConvEpilogue { bias: Some(&bias), activation: None, residual: residual.as_deref() };
        cpu::tensor([b, c_out, h, w], |out| kernels::conv2d(conv, &x, b, [h, w], 1, epilogue, out))
    }

    fn composed(&self, weight: &Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [self.padding; 2], [1, 1], 1);
        module::conv2d(x, weight.clone(), Some(self.bias.clone()), options)
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
        ops::affine_layer_norm(x, &self.weight, &self.bias, self.eps)
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
        ops::rms_norm(x, &self.scale, self.eps)
    }

    /// [`RmsNorm::forward`] of heads, `[b, heads, tokens, d]`, then [`Rope::rotate`].
    pub fn forward_rotated(&self, x: Tensor<4>, pe: &Rope) -> Tensor<4> {
        pe.rotate_normed(x, &self.scale, self.eps)
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
        ops::group_norm(x, self.groups, &self.weight, &self.bias, self.eps, None)
    }

    /// `silu(forward(x))`.
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        ops::group_norm(x, self.groups, &self.weight, &self.bias, self.eps, Some(Activation::Silu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Residency, Stored, tensor, values, weights::tests::Memory};

    pub(super) fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    fn random<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
        tensor(wave(shape.iter().product(), step), shape, &Device::flex())
    }

    fn agree<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
        agree_within(1e-5, found, expected);
    }

    pub(super) fn agree_within<const D: usize>(allowed: f32, found: Tensor<D>, expected: Tensor<D>) {
        assert_eq!(found.dims(), expected.dims());
        for (f, e) in values(&found).iter().zip(values(&expected)) {
            assert!((f - e).abs() < allowed, "{f} {e}");
        }
    }

    #[test]
    fn what_follows_a_linear_layer_is_the_same_inside_it_and_after_it() {
        // given a layer in memory and one in its file
        let (d_in, d_out) = (13, 37);
        let source = Memory::of([
            ("weight", Stored::of(&wave(d_in * d_out, 0.7), vec![d_out, d_in])),
            ("bias", Stored::of(&wave(d_out, 1.3), vec![d_out])),
        ]);
        let weights = |residency| Weights::of(&source, &Device::flex(), residency);
        let inside = Linear::load(&weights(Residency::Unpacked), d_in, d_out).unwrap();
        let after = Linear::load(&weights(Residency::Mapped), d_in, d_out).unwrap();
        assert!(matches!((&inside.weight, &after.weight), (Weight::Panels(_), Weight::Packed(_))));
        let (residual, gate) = (random([2, 5, d_out], 0.3), random([2, 1, d_out], 0.9));
        // when rows are given to them that lie together, with gaps, and across
        let wide = random([2, 5, d_in + 4], 0.21);
        for x in [
            random([2, 5, d_in], 0.11),
            wide.narrow(2, 3, d_in),
            random([2, 7, d_in], 0.17).narrow(1, 1, 5),
            random([2, d_in, 5], 0.19).swap_dims(1, 2),
            random([1, 1, d_in], 0.23).expand([2, 5, d_in]),
        ] {
            // then both say the same
            agree(inside.forward(x.clone()), after.forward(x.clone()));
            let f = Activation::GeluTanh;
            agree(inside.forward_then(x.clone(), f), after.forward_then(x.clone(), f));
            agree(inside.forward_onto(x.clone(), residual.clone()), after.forward_onto(x.clone(), residual.clone()));
            agree(
                inside.forward_gated_onto(x.clone(), gate.clone(), residual.clone()),
                after.forward_gated_onto(x, gate.clone(), residual.clone()),
            );
        }
        // and so do the two layers that are stored as one
        let x = random([3, d_in], 0.5);
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let [first, second] = Linear::load_stacked(&weights(residency), d_in, [10, 27]).unwrap();
            let both = Tensor::cat(vec![first.forward(x.clone()), second.forward(x.clone())], 1);
            agree(both, inside.forward(x.clone()));
        }
    }

    #[test]
    fn a_convolution_is_that_of_burn() {
        for (c_in, c_out, kernel) in [(3, 5, 3), (4, 33, 1), (2, 3, 5)] {
            let size = c_in * c_out * kernel * kernel;
            let source = Memory::of([
                ("weight", Stored::of(&wave(size, 0.7), vec![c_out, c_in, kernel, kernel])),
                ("bias", Stored::of(&wave(c_out, 1.3), vec![c_out])),
            ]);
            let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
            let conv = Conv2d::load(&weights, c_in, c_out, kernel).unwrap();
            let dense = weights.tensor("weight", [c_out, c_in, kernel, kernel]).unwrap();
            let x = random([2, c_in, 6, 7], 0.11);
            let expected = conv.composed(&dense, x.clone());
            agree(conv.forward(x.clone()), expected.clone());
            let residual = random([2, c_out, 6, 7], 0.3);
            agree(conv.forward_onto(x, residual.clone()), residual + expected);
        }
    }
}
