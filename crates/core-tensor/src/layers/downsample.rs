use burn::tensor::{module, ops::ConvOptions};
use kernels::ConvEpilogue;

use crate::{
    Error, Filter, Tensor, Weights,
    cpu::{self, Values},
    layers::Conv2d,
    weights::F32,
};

/// A convolution of kernel 3 that takes every second pixel, with a border of zeros below and to the right alone.
///
/// Reference: latent-diffusion `Downsample`, which pads by `(0, 1, 0, 1)`.
#[derive(Clone)]
pub struct Downsample(Conv2d);

impl Downsample {
    /// Loads `weight` `[c_out, c_in, 3, 3]` and `bias` `[c_out]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(w: &Weights, c_in: usize, c_out: usize) -> Result<Self, Error> {
        Ok(Self(Conv2d::load(w, c_in, c_out, 3)?))
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h / 2, w / 2]`, rounded down.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.0.filter {
            Filter::Panels(conv) => self.convolve(conv, x),
            Filter::Dense(weight) => self.composed(weight, x),
        }
    }

    /// The kernel pads by one on every side. With one more row above and one more column to the left it sees the pixels that
    /// are wanted, from its second row and column on.
    fn convolve(&self, conv: &kernels::PackedConv, x: Tensor<4>) -> Tensor<4> {
        let [b, _, h, w] = x.dims();
        let [c_out, _, _] = conv.shape();
        let x = Values::of(&x.pad((1, 0, 1, 0), 0.0)).expect(F32);
        let bias = Values::of(&self.0.bias).expect(F32);
        let epilogue = ConvEpilogue { bias: Some(&bias), ..ConvEpilogue::default() };
        let shape = [b, c_out, h / 2 + 1, w / 2 + 1];
        let y = cpu::tensor(shape, |out| kernels::conv2d(conv, &x, b, [h + 1, w + 1], 2, epilogue, out));
        y.narrow(2, 1, h / 2).narrow(3, 1, w / 2)
    }

    fn composed(&self, weight: &Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
        module::conv2d(x.pad((0, 1, 0, 1), 0.0), weight.clone(), Some(self.0.bias.clone()), options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Compute, Device, Residency, Stored,
        layers::tests::{agree_within, wave},
        tensor,
        weights::tests::Memory,
    };

    #[test]
    fn a_downsampling_convolution_is_that_of_burn_for_even_and_odd_sides() {
        for (c_in, c_out) in [(3, 5), (8, 33)] {
            let source = Memory::of([
                ("weight", Stored::of(&wave(c_in * c_out * 9, 0.7), vec![c_out, c_in, 3, 3])),
                ("bias", Stored::of(&wave(c_out, 1.3), vec![c_out])),
            ]);
            let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
            let dense = weights.tensor("weight", [c_out, c_in, 3, 3]).unwrap();
            for (compute, allowed) in [(Compute::F32, 1e-5), (Compute::Bf16, 0.1)] {
                let down = Downsample::load(&weights.clone().computed_in(compute), c_in, c_out).unwrap();
                for [h, w] in [[2, 2], [6, 8], [7, 6], [5, 9]] {
                    let x = tensor(wave(2 * c_in * h * w, 0.11), [2, c_in, h, w], &Device::flex());
                    let found = down.forward(x.clone());
                    assert_eq!(found.dims(), [2, c_out, h / 2, w / 2]);
                    agree_within(allowed, found, down.composed(&dense, x));
                }
            }
        }
    }
}
