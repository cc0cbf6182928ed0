use burn::tensor::module;
use kernels::Affines;

use super::GroupNorm;
use crate::{
    Error, Parameter, Tensor, Weight, Weights,
    cpu::Values,
    cuda::{self, Window},
    ops::Activation,
    weights::{Around, Before, Convolution, F32, Parameters},
};

/// A two-dimensional convolution over `[b, c, h, w]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Weight<Convolution>,
    bias: Parameter<1>,
}

/// What is added to a convolution's result, each part optional.
#[derive(Debug, Default)]
pub struct Added {
    /// A number for each channel, the same for all pixels, `[b or 1, c_out]`.
    pub shift: Option<Tensor<2>>,
    /// As large as the result.
    pub residual: Option<Tensor<4>>,
}

/// A norm of the input of a convolution, and what follows it.
struct Normed<'a> {
    norm: &'a GroupNorm,
    activation: Option<Activation>,
}

impl Before for Normed<'_> {
    fn maps(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward_then(x, self.activation)
    }

    fn affines(&self, x: &[f32], b: usize) -> (Affines, Option<Activation>) {
        (self.norm.affines(x, b), self.activation)
    }
}

impl Conv2d {
    /// Loads `weight` `[c_out, c_in, kernel, kernel]` and `bias` `[c_out]`; the output has the input's size.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self { weight: w.convolution("weight")?, bias: w.parameter("bias")? })
    }

    /// The same over every `stride`th pixel in each direction: the output has the input's size divided by it, rounded up.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Self { weight: self.weight.strided(stride), ..self }
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.weight.alone().map(|own| (own, &own.parameters)) {
            Some((own, Parameters::Panels(conv))) => self.fused(own, conv, x, None, None, None),
            Some((own, Parameters::Dense(weight))) => {
                module::conv2d(x, weight.clone(), Some(self.bias.value()), own.options())
            }
            Some((own, Parameters::Device(conv))) => self.on_device(own, conv, x, None, None),
            Some((_, Parameters::Mapped(_))) | None => self.composed(x),
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        match self.weight.alone().map(|own| (own, &own.parameters)) {
            Some((own, Parameters::Panels(conv))) => self.fused(own, conv, x, None, None, Some(&residual)),
            Some((own, Parameters::Device(conv))) => self.on_device(own, conv, x, None, Some(residual)),
            Some((_, Parameters::Dense(_) | Parameters::Mapped(_))) | None => {
                let y = self.forward(x).cast(residual.dtype());
                residual + y
            }
        }
    }

    /// `forward(activation(norm(x)))`, to which is added what there is.
    pub fn forward_normed(
        &self,
        norm: &GroupNorm,
        activation: Option<Activation>,
        x: Tensor<4>,
        added: Added,
    ) -> Tensor<4> {
        let Added { shift, residual } = added;
        if let Some((own, Parameters::Panels(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) {
            return self.fused(own, conv, x, Some(&Normed { norm, activation }), shift, residual.as_ref());
        }
        let x = norm.forward_then(x, activation);
        if let Some((own, Parameters::Device(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) {
            return self.on_device(own, conv, x, shift, residual);
        }
        let y = self.forward(x);
        let y = match shift {
            Some(shift) => {
                let shift = shift.cast(y.dtype());
                y + shift.unsqueeze_dims(&[2, 3])
            }
            None => y,
        };
        match residual {
            Some(residual) => {
                let y = y.cast(residual.dtype());
                residual + y
            }
            None => y,
        }
    }

    fn fused(
        &self,
        own: &Convolution,
        conv: &kernels::PackedConv,
        x: Tensor<4>,
        norm: Option<&dyn Before>,
        shift: Option<Tensor<2>>,
        residual: Option<&Tensor<4>>,
    ) -> Tensor<4> {
        let bias = match shift {
            Some(shift) => Values::of(&(shift + self.bias.value().unsqueeze_dim(0))),
            None => Values::of(&self.bias.value()),
        };
        own.convolve(conv, x, Around { norm, bias: Some(&bias.expect(F32)), residual })
    }

    /// The same by a device's own kernels.
    fn on_device(
        &self,
        own: &Convolution,
        conv: &cuda::Conv,
        x: Tensor<4>,
        shift: Option<Tensor<2>>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let bias = self.bias.value().unsqueeze_dim(0); // 1 c_out
        let bias = match shift {
            Some(shift) => shift + bias,
            None => bias,
        };
        let window = own.window(&x);
        conv.convolve(x, window, Some(bias), residual)
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h / 2, w / 2]`, rounded down, of a convolution that pads below and to the right alone; `None`
    /// where no kernel does.
    pub(crate) fn forward_below(&self, x: &Tensor<4>) -> Option<Tensor<4>> {
        let Some((own, Parameters::Device(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) else {
            return None;
        };
        let [_, _, h, w] = x.dims();
        let window = Window { pad: 0, size: [h / 2, w / 2], ..own.window(x) };
        Some(conv.convolve(x.clone(), window, Some(self.bias.value().unsqueeze_dim(0)), None))
    }

    fn composed(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.weight.product(x);
        let bias: Tensor<2> = self.bias.value().cast(y.dtype()).unsqueeze_dim(1); // c_out 1
        y + bias.unsqueeze_dims(&[0, 3])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::{
        Device, Layout, Residency, Stored,
        layers::tests::{agree, random, wave},
        weights::tests::Memory,
    };

    #[test]
    fn a_convolution_is_that_of_burn() {
        for (c_in, c_out, kernel) in [(3, 5, 3), (4, 33, 1), (2, 3, 5)] {
            let size = c_in * c_out * kernel * kernel;
            let source = Memory::of([
                ("weight", Stored::of(&wave(size, 0.7), vec![c_out, c_in, kernel, kernel])),
                ("bias", Stored::of(&wave(c_out, 1.3), vec![c_out])),
            ]);
            let layout = Layout::of(|l| l.convolution("", c_in, c_out, kernel));
            let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).laid_out(layout);
            let conv = Conv2d::load(&weights).unwrap();
            let dense = random([c_out, c_in, kernel, kernel], 0.7);
            let options = ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], 1);
            let x = random([2, c_in, 6, 7], 0.11);
            let expected = module::conv2d(x.clone(), dense, Some(random([c_out], 1.3)), options);
            agree(conv.forward(x.clone()), expected.clone());
            let residual = random([2, c_out, 6, 7], 0.3);
            agree(conv.forward_onto(x, residual.clone()), residual + expected);
        }
    }
}
