use core_tensor::{
    Tensor, Weights,
    layers::{Conv2d, Downsample, GroupNorm},
};

use super::{
    LatentScaling,
    blocks::{Mid, ResnetBlock, level, norm, passes},
};
use crate::{Error, Inside, Site, Size};

/// How the network is called where hooks look inside.
const NETWORK: &str = "encoder";

/// From pixels to the distribution of a latent without its scaling.
///
/// Reference: latent-diffusion `Encoder`, whose parameter names these are; as in flux/modules/autoencoder.py, 802fb47.
pub(super) struct Encoder {
    conv_in: Conv2d,
    /// From the finest level to the coarsest.
    down: Vec<DownLevel>,
    mid: Mid,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Conv2d>,
    pub(super) channels: usize,
}

impl Encoder {
    /// Loads what is under `encoder` and the convolution behind it, which not every family has.
    pub(super) fn load(root: &Weights, groups: usize) -> Result<Self, Error> {
        let w = root.at("encoder");
        let [mut c, _, _, _] = w.dims("conv_in.weight")?;
        let conv_in = Conv2d::load(&w.at("conv_in"), 3, c, 3)?;
        let levels = w.at("down").depth()?;
        let mut down = Vec::new();
        for level in 0..levels {
            down.push(DownLevel::load(&w.at("down").at(level), &mut c, groups)?);
        }
        let halvings = down.iter().filter(|level| level.downsample.is_some()).count();
        let most = Size::MAX.ilog2() as usize;
        if halvings > most {
            let (expected, found) = (format!("at most {most}"), halvings.to_string());
            return Err(Error::Model { what: "how often an autoencoder halves", expected, found });
        }
        let mid = Mid::load(&w.at("mid"), &mut c, groups)?;
        let [moments, _, _, _] = w.dims("conv_out.weight")?;
        if moments % 2 != 0 {
            return Err(Error::Model {
                what: "the number of an autoencoder's means and variances",
                expected: "even".into(),
                found: moments.to_string(),
            });
        }
        let has_quant = root.shape("quant_conv.weight").is_some();
        Ok(Self {
            conv_in,
            down,
            mid,
            norm_out: norm(&w.at("norm_out"), c, groups)?,
            conv_out: Conv2d::load(&w.at("conv_out"), c, moments, 3)?,
            quant_conv: has_quant.then(|| Conv2d::load(&root.at("quant_conv"), moments, moments, 1)).transpose()?,
            channels: moments / 2,
        })
    }

    /// How many pixels become one of a latent, in each direction.
    pub(super) fn factor(&self) -> usize {
        1 << self.down.iter().filter(|level| level.downsample.is_some()).count()
    }

    /// The most values that it holds at once for each pixel of a latent.
    pub(super) fn held(&self) -> u64 {
        let factor = self.factor() as u64;
        let mut pixels = factor.saturating_mul(factor);
        let mut most = self.mid.held();
        for level in &self.down {
            for block in &level.blocks {
                most = most.max(pixels.saturating_mul(block.held()));
            }
            if level.downsample.is_some() {
                // What is given, with its border, and the quarter of it that comes out, with and without the border.
                let halved = passes(level.width).saturating_add(level.width);
                most = most.max(pixels.saturating_mul(halved));
                pixels /= 4;
            }
        }
        most
    }

    /// `[b, 3, h, w]` to means and log-variances, `[b, 2 · channels, h / factor, w / factor]`.
    pub(super) fn forward(&self, pixels: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let h = inside.after_map(Site::layer(NETWORK, "conv_in"), self.conv_in.forward(pixels))?;
        let h = self
            .down
            .iter()
            .enumerate()
            .try_fold(h, |h, (i, level)| inside.after_map(Site::block(NETWORK, "down", i), level.forward(h)))?;
        let h = inside.after_map(Site::layer(NETWORK, "mid"), self.mid.forward(h))?;
        let moments = self.conv_out.forward(self.norm_out.forward_silu(h));
        Ok(match &self.quant_conv {
            Some(conv) => conv.forward(moments),
            None => moments,
        })
    }
}

struct DownLevel {
    /// Channels that come out of its blocks.
    width: u64,
    blocks: Vec<ResnetBlock>,
    downsample: Option<Downsample>,
}

impl DownLevel {
    fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let blocks = level(&w.at("block"), c, groups)?;
        let downsample = match w.shape("downsample.conv.weight") {
            Some(_) => Some(Downsample::load(&w.at("downsample.conv"), *c, *c)?),
            None => None,
        };
        Ok(Self { width: *c as u64, blocks, downsample })
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
