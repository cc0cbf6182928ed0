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
}
