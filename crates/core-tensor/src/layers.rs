//! The layers that every model is built from, each loaded by name, in the shape that its network's layout gives it.

mod attention;
mod conv2d;
mod downsample;
mod linear;
mod norms;

pub use self::{
    attention::Attention,
    conv2d::{Added, Conv2d},
    downsample::Downsample,
    linear::Linear,
    norms::{GroupNorm, LayerNorm, RmsNorm},
};
pub use crate::weights::Table;

#[cfg(test)]
mod tests {
    use crate::{Device, Tensor, tensor, values};

    pub(super) fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    pub(super) fn random<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
        tensor(wave(shape.iter().product(), step), shape, &Device::flex())
    }

    pub(super) fn agree<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
        agree_within(1e-5, found, expected);
    }

    pub(super) fn agree_within<const D: usize>(allowed: f32, found: Tensor<D>, expected: Tensor<D>) {
        assert_eq!(found.dims(), expected.dims());
        for (f, e) in values(&found).iter().zip(values(&expected)) {
            assert!((f - e).abs() < allowed, "{f} {e}");
        }
    }
}
