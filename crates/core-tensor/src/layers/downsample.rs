use crate::{Error, Tensor, Weights, layers::Conv2d};

/// A convolution of kernel 3 that takes every second pixel, with a border of zeros below and to the right alone.
///
/// Reference: latent-diffusion `Downsample`, which pads by `(0, 1, 0, 1)`.
#[derive(Clone, Debug)]
pub struct Downsample(Conv2d);

impl Downsample {
    /// Loads `weight` `[c_out, c_in, 3, 3]` and `bias` `[c_out]`.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self(Conv2d::load(w)?.strided(2)))
    }

    /// `[b, c_in, h, w]` to `[b, c_out, h / 2, w / 2]`, rounded down.
    ///
    /// The convolution pads by one on every side. With one more row above and one more column to the left it sees the pixels that
    /// are wanted, from its second row and column on.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(y) = self.0.forward_below(&x) {
            return y;
        }
        let [_, _, h, w] = x.dims();
        let y = self.0.forward(x.pad((1, 0, 1, 0), 0.0));
        y.narrow(2, 1, h / 2).narrow(3, 1, w / 2)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{module, ops::ConvOptions};

    use super::*;
    use crate::{
        Compute, Device, Layout, Residency, Stored,
        layers::tests::{agree_within, random, wave},
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
            let layout = Layout::of(|l| l.convolution("", c_in, c_out, 3));
            let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).laid_out(layout);
            for (compute, allowed) in [(Compute::F32, 1e-5), (Compute::Bf16, 0.1)] {
                let down = Downsample::load(&weights.clone().computed_in(compute)).unwrap();
                for [h, w] in [[2, 2], [6, 8], [7, 6], [5, 9]] {
                    let x = tensor(wave(2 * c_in * h * w, 0.11), [2, c_in, h, w], &Device::flex());
                    let found = down.forward(x.clone());
                    assert_eq!(found.dims(), [2, c_out, h / 2, w / 2]);
                    let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
                    let (weight, bias) = (random([c_out, c_in, 3, 3], 0.7), random([c_out], 1.3));
                    let expected = module::conv2d(x.pad((0, 1, 0, 1), 0.0), weight, Some(bias), options);
                    agree_within(allowed, found, expected);
                }
            }
        }
    }
}
