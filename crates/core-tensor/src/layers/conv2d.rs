use burn::tensor::module;
use kernels::Affines;

use super::GroupNorm;
use crate::{
    Error, Parameter, Tensor, Weight, Weights,
    cpu::Values,
    gpu::{self, Window},
    in_format_of,
    ops::Activation,
    weights::{Around, Before, Convolution, F32, ForDevice, Parameters},
};

/// A two-dimensional convolution over `[b, c, h, w]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Weight<Convolution>,
    bias: Option<Parameter<1>>,
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
    /// Loads `weight` `[c_out, c_in, kernel, kernel]` and, where the layout has it, `bias` `[c_out]`; the output has the input's size.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn load(w: &Weights) -> Result<Self, Error> {
        let bias = w.declares("bias").then(|| w.parameter("bias")).transpose()?;
        Ok(Self { weight: w.convolution("weight")?, bias })
    }

    /// The same over every `stride`th pixel in each direction: the output has the input's size divided by it, rounded up.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Self { weight: self.weight.strided(stride), ..self }
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some((own, conv)) = self.for_device() {
            return self.on_device(own, &conv, x, None, None);
        }
        match self.weight.alone().map(|own| (own, &own.parameters)) {
            Some((own, Parameters::Panels(conv))) => self.fused(own, conv, x, None, Added::default(), None),
            Some((own, Parameters::Dense(weight))) => {
                module::conv2d(x, weight.clone(), self.bias.as_ref().map(Parameter::value), own.options())
            }
            Some((_, Parameters::Device(_) | Parameters::Packed(_) | Parameters::Mapped(_))) | None => self.composed(x),
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        if let Some((own, conv)) = self.for_device() {
            return self.on_device(own, &conv, x, None, Some(residual));
        }
        if let Some((own, Parameters::Panels(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) {
            return self.fused(own, conv, x, None, Added { shift: None, residual: Some(residual) }, None);
        }
        let y = self.forward(x).cast(residual.dtype());
        residual + y
    }

    /// `residual + forward(x)`, or `forward(x)` without one, of which values below zero are multiplied with their channel's slope, `[c_out]`.
    pub fn forward_rectified(&self, x: Tensor<4>, residual: Option<Tensor<4>>, slopes: &Tensor<1>) -> Tensor<4> {
        if let Some((own, Parameters::Panels(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) {
            return self.fused(own, conv, x, None, Added { shift: None, residual }, Some(slopes));
        }
        let y = match residual {
            Some(residual) => self.forward_onto(x, residual),
            None => self.forward(x),
        };
        let below = y.clone().clamp_max(0.0);
        let slopes = slopes.clone().cast(y.dtype()).unsqueeze_dims(&[0, 2, 3]); // 1 c_out 1 1
        (y - below.clone()) + below * slopes
    }

    /// `forward(activation(norm(x)))`, to which is added what there is.
    pub fn forward_normed(
        &self,
        norm: &GroupNorm,
        activation: Option<Activation>,
        x: Tensor<4>,
        added: Added,
    ) -> Tensor<4> {
        if let Some((own, Parameters::Panels(conv))) = self.weight.alone().map(|own| (own, &own.parameters)) {
            return self.fused(own, conv, x, Some(&Normed { norm, activation }), added, None);
        }
        let Added { shift, residual } = added;
        let x = norm.forward_then(x, activation);
        if let Some((own, conv)) = self.for_device() {
            return self.on_device(own, &conv, x, shift, residual);
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
        Added { shift, residual }: Added,
        slopes: Option<&Tensor<1>>,
    ) -> Tensor<4> {
        let bias = self.shifted(shift).map(|bias| Values::of(&bias).expect(F32));
        let slopes = slopes.map(|slopes| Values::of(slopes).expect(F32));
        let (bias, slopes) = (bias.as_deref(), slopes.as_deref());
        own.convolve(conv, x, Around { norm, bias, residual: residual.as_ref(), slopes })
    }

    /// What is added to each channel, `[b or 1, c_out]`: the bias and a shift, as far as there are any.
    fn shifted(&self, shift: Option<Tensor<2>>) -> Option<Tensor<2>> {
        let bias = self.bias.as_ref().map(|bias| bias.value().unsqueeze_dim(0)); // 1 c_out
        match (shift, bias) {
            (Some(shift), Some(bias)) => Some(in_format_of(shift, &bias) + bias),
            (one, other) => one.or(other),
        }
    }

    /// The weight and its parameters, where they are all that counts and kernels of ours for the device read them.
    fn for_device(&self) -> Option<(&Convolution, ForDevice<'_>)> {
        let own = self.weight.alone()?;
        Some((own, own.for_device()?))
    }

    /// The same by a device's own kernels.
    fn on_device(
        &self,
        own: &Convolution,
        conv: &gpu::Conv,
        x: Tensor<4>,
        shift: Option<Tensor<2>>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let window = own.window(&x);
        conv.convolve(x, window, self.shifted(shift), residual)
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h / 2, w / 2]`, rounded down, of a convolution that pads below and to the right alone; `None`
    /// where no kernel does.
    pub(crate) fn forward_below(&self, x: &Tensor<4>) -> Option<Tensor<4>> {
        let (own, conv) = self.for_device()?;
        let [_, _, h, w] = x.dims();
        let window = Window { pad: 0, size: [h / 2, w / 2], ..own.window(x) };
        Some(conv.convolve(x.clone(), window, self.shifted(None), None))
    }

    fn composed(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.weight.product(x);
        let Some(bias) = &self.bias else { return y };
        let bias: Tensor<2> = bias.value().cast(y.dtype()).unsqueeze_dim(1); // c_out 1
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
            agree(conv.forward_onto(x.clone(), residual.clone()), residual.clone() + expected.clone());
            // What comes out below zero is multiplied with the slope of its channel, with a residual and without.
            let (slopes, all) = (random([c_out], 0.9), random([c_out], 0.9).reshape([1, c_out, 1, 1]));
            let rectified = |y: Tensor<4>| y.clone().clamp_min(0.0) + y.clamp_max(0.0) * all.clone();
            agree(conv.forward_rectified(x.clone(), None, &slopes), rectified(expected.clone()));
            agree(conv.forward_rectified(x, Some(residual.clone()), &slopes), rectified(residual + expected));
        }
    }

    #[test]
    fn a_convolution_without_a_bias_adds_none_however_it_is_held() {
        let source = Memory::of([("weight", Stored::of(&wave(2 * 3 * 9, 0.7), vec![2, 3, 3, 3]))]);
        let layout = || Layout::of(|l| l.unbiased_convolution("", 3, 2, 3));
        let x = random([1, 3, 4, 5], 0.11);
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let expected = module::conv2d(x.clone(), random([2, 3, 3, 3], 0.7), None, options);
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let weights = Weights::of(&source, &Device::flex(), residency).laid_out(layout());
            let conv = Conv2d::load(&weights).unwrap();
            agree(conv.forward(x.clone()), expected.clone());
            let slopes = Tensor::zeros([2], &Device::flex());
            agree(conv.forward_rectified(x.clone(), None, &slopes), expected.clone().clamp_min(0.0));
        }
    }
}
