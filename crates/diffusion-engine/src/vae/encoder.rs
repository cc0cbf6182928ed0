use core_tensor::{
    Tensor, Weights, in_f32,
    layers::{Added, Conv2d, Downsample, GroupNorm},
    ops::Activation,
};

use super::{
    LatentScaling,
    blocks::{Mid, ResnetBlock, blocks, norm},
    dimensions::{Half, Level},
};
use crate::{Error, Inside, Site};

/// How the network is called where hooks look inside.
const NETWORK: &str = "encoder";

/// From pixels to the distribution of a latent without its scaling.
///
/// Reference: latent-diffusion `Encoder`, whose parameter names these are; as in flux/modules/autoencoder.py, 802fb47.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    /// From the finest level to the coarsest.
    down: Vec<DownLevel>,
    mid: Mid,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Conv2d>,
}

impl Encoder {
    /// Loads what is under `encoder` and the convolution behind it, which not every family has.
    pub(super) fn load(root: &Weights, dimensions: &Half, groups: usize) -> Result<Self, Error> {
        let w = root.at("encoder");
        let down = |(i, level): &(usize, Level)| DownLevel::load(&w.at("down").at(i), level, groups);
        Ok(Self {
            conv_in: Conv2d::load(&w.at("conv_in"))?,
            down: dimensions.levels.iter().map(down).collect::<Result<_, _>>()?,
            mid: Mid::load(&w.at("mid"), groups)?,
            norm_out: norm(&w.at("norm_out"), groups)?,
            conv_out: Conv2d::load(&w.at("conv_out"))?,
            quant_conv: dimensions.quant.then(|| Conv2d::load(&root.at("quant_conv"))).transpose()?,
        })
    }

    /// `[b, 3, h, w]` to means and log-variances, `[b, 2 · channels, h / factor, w / factor]`, f32.
    pub(super) fn forward(&self, pixels: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let h = inside.after_map(Site::layer(NETWORK, "conv_in"), self.conv_in.forward(pixels))?;
        let h = self
            .down
            .iter()
            .enumerate()
            .try_fold(h, |h, (i, level)| inside.after_map(Site::block(NETWORK, "down", i), level.forward(h)))?;
        let h = inside.after_map(Site::layer(NETWORK, "mid"), self.mid.forward(h))?;
        let moments = self.conv_out.forward_normed(&self.norm_out, Some(Activation::Silu), h, Added::default());
        let moments = match &self.quant_conv {
            Some(conv) => conv.forward(moments),
            None => moments,
        };
        // Many channels leave a device's convolution in the number format that it computes in.
        Ok(in_f32(moments))
    }
}

#[derive(Debug)]
struct DownLevel {
    /// Channels that come out of its blocks.
    blocks: Vec<ResnetBlock>,
    downsample: Option<Downsample>,
}

impl DownLevel {
    fn load(w: &Weights, level: &Level, groups: usize) -> Result<Self, Error> {
        let downsample = level.sampled.map(|_| Downsample::load(&w.at("downsample.conv")));
        Ok(Self { blocks: blocks(w, level, groups)?, downsample: downsample.transpose()? })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match &self.downsample {
            Some(conv) => conv.forward(x),
            None => x,
        }
    }
}

/// What an encoder knows of a picture's latent: a normal distribution for each value, all independent.
#[derive(Clone, Debug)]
pub struct Posterior {
    mean: Tensor<4>,
    log_variance: Tensor<4>,
    scaling: LatentScaling,
}

/// The least and the most that a log-variance is taken for.
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0]; // latent-diffusion DiagonalGaussianDistribution

impl Posterior {
    /// Of what an encoder gives, `[b, 2 · channels, h, w]`: the means, then the log-variances.
    pub(super) fn of(moments: Tensor<4>, scaling: LatentScaling) -> Self {
        let channels = moments.dims()[1] / 2;
        let [least, most] = LOG_VARIANCE;
        Self {
            mean: moments.clone().narrow(1, 0, channels),
            log_variance: moments.narrow(1, channels, channels).clamp(least, most),
            scaling,
        }
    }

    /// The means, `[b, channels, h, w]`, before scaling.
    pub fn mean(&self) -> &Tensor<4> {
        &self.mean
    }

    /// Logarithms of the variances, `[b, channels, h, w]`, -30 to 20, before scaling.
    pub fn log_variance(&self) -> &Tensor<4> {
        &self.log_variance
    }

    /// The latent that unit noise `[b, channels, h, w]` picks, scaled as a model denoises it.
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        let deviation = (self.log_variance.clone() * 0.5).exp();
        self.scaling.apply(self.mean.clone() + deviation * noise)
    }

    /// The most probable latent, scaled as a model denoises it.
    pub fn mode(&self) -> Tensor<4> {
        self.scaling.apply(self.mean.clone())
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, tensor, values};

    use super::*;

    #[test]
    fn a_variance_beyond_all_bounds_is_taken_for_the_bound() {
        let moments = tensor(vec![1.0, 2.0, -1e9, 1e9], [1, 4, 1, 1], &Device::flex());
        let posterior = Posterior::of(moments, LatentScaling { scale: 2.0, shift: 0.5 });
        assert_eq!(values(posterior.log_variance()), [-30.0, 20.0]);
        assert_eq!(values(&posterior.mode()), [1.0, 3.0]);
        let sample = values(&posterior.sample(tensor(vec![1.0, 1.0], [1, 2, 1, 1], &Device::flex())));
        let expected = [2.0 * (0.5 + (-15f64).exp()), 2.0 * (1.5 + 10f64.exp())];
        for (found, expected) in sample.iter().zip(expected) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        }
    }
}
