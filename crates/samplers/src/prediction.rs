//! What the output of a model says of the data.
//!
//! References: Karras et al. 2022 (Elucidating the Design Space of Diffusion-Based Generative Models), table 1, and k-diffusion
//! `DiscreteEpsDDPMDenoiser`, `VDenoiser` and `Denoiser`, commit 4601bf0; Salimans and Ho 2022 for `v`.

use core_tensor::{Latent, Tensor};

use crate::Process;

/// What a model's output is, and so how the data follow from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction {
    /// The noise in the latent: Stable Diffusion 1.x and XL.
    Epsilon,
    /// `alpha · noise - beta · data`, where `alpha` and `beta` are the shares of both in a latent of unit variance: Stable Diffusion 2.x
    /// at 768 pixels, and models with zero terminal signal-to-noise ratio.
    V,
    /// `noise - data`: rectified flow.
    Flow,
    /// A mixture of data and noise that has unit variance at every level.
    Edm {
        /// The standard deviation of the data; 0.5 in most such models.
        data: f64,
    },
}

impl Prediction {
    /// How the data turn into noise where models predict this.
    pub fn process(self) -> Process {
        match self {
            Self::Epsilon | Self::V | Self::Edm { .. } => Process::Diffusion,
            Self::Flow => Process::Flow,
        }
    }

    /// What a latent at a noise level is multiplied by before the model sees it.
    pub fn input(self, sigma: f32) -> f32 {
        let sigma = f64::from(sigma);
        match self {
            Self::Epsilon | Self::V => 1.0 / sigma.hypot(1.0) as f32,
            Self::Edm { data } => 1.0 / sigma.hypot(data) as f32,
            Self::Flow => 1.0,
        }
    }

    /// The clean latent that the model sees in `x` at a noise level, by its output for it.
    pub fn denoised(self, x: Tensor<4>, output: Tensor<4>, sigma: f32) -> Latent {
        let variance = |data: f64| f64::from(sigma).powi(2) + data.powi(2);
        Latent(match self {
            Self::Epsilon | Self::Flow => x - output * sigma,
            Self::V => {
                let factor = f64::from(sigma) / variance(1.0).sqrt();
                x * (1.0 / variance(1.0)) as f32 - output * factor as f32
            }
            Self::Edm { data } => {
                let factor = f64::from(sigma) * data / variance(data).sqrt();
                x * (data.powi(2) / variance(data)) as f32 + output * factor as f32
            }
        })
    }

    /// The output for `x` at a noise level above 0 by which the model sees this clean latent there: [`Prediction::denoised`] the other way
    /// round.
    pub fn output(self, x: Tensor<4>, denoised: Tensor<4>, sigma: f32) -> Tensor<4> {
        let variance = |data: f64| f64::from(sigma).powi(2) + data.powi(2);
        match self {
            Self::Epsilon | Self::Flow => (x - denoised) * (1.0 / sigma),
            Self::V => {
                let factor = variance(1.0).sqrt() / f64::from(sigma);
                (x * (1.0 / variance(1.0)) as f32 - denoised) * factor as f32
            }
            Self::Edm { data } => {
                let factor = variance(data).sqrt() / (f64::from(sigma) * data);
                (denoised - x * (data.powi(2) / variance(data)) as f32) * factor as f32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, tensor, values};

    use super::*;

    #[test]
    fn the_output_for_what_a_model_saw_is_what_it_said() {
        let latent =
            |seed: f32| tensor((0..8).map(|i| (seed * i as f32).sin()).collect(), [1, 2, 2, 2], &Device::flex());
        let (x, output) = (latent(1.3), latent(0.7));
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Flow, Prediction::Edm { data: 0.5 }] {
            for sigma in [0.1, 0.9, 14.6] {
                let denoised = prediction.denoised(x.clone() * sigma, output.clone(), sigma);
                let found = values(&prediction.output(x.clone() * sigma, denoised.0, sigma));
                for (found, expected) in found.iter().zip(values(&output)) {
                    assert!((found - expected).abs() < 1e-4, "{prediction:?} at {sigma}: {found}, expected {expected}");
                }
            }
        }
    }
}
