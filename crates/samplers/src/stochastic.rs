//! What the stochastic DPM-Solver++ samplers share: a step on the scale of the log signal-to-noise ratio.
//!
//! References: k-diffusion `sample_dpmpp_2m_sde`, commit 4601bf0; for rectified flow ComfyUI's form of it (v0.3.64), which is the same
//! equation for `x / signal`.

use core_tensor::{Latent, Tensor};

use crate::{Noise, Process, Step};

/// Pure noise has no signal-to-noise ratio; a flow's first level is taken for this one.
///
/// ComfyUI `offset_first_sigma_for_snr`, for a flow whose time is not shifted; it takes a shifted one's level at the same time.
const BELOW_ONE: f64 = 0.9999;

/// A step from one level to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sde {
    /// The level that the model is asked at.
    pub(crate) sigma: f32,
    /// Its length in log signal-to-noise ratio; infinite if it ends in 0.
    pub(crate) h: f64,
    /// The length with what is added for the noise.
    pub(crate) h_eta: f64,
    /// What is left of the latent.
    decay: f64,
    /// The share of the data in a latent of the next level.
    signal: f64,
    /// The standard deviation of the noise that is added.
    renoise: f64,
}

impl Sde {
    /// `eta` is how much noise is drawn anew: 0 makes the step deterministic.
    pub(crate) fn of(process: Process, at: Step, eta: f64) -> Self {
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let (sigma, signal, ratio): (_, _, fn(f64) -> f64) = match process {
            Process::Diffusion => (sigma, 1.0, |sigma| 1.0 / sigma),
            Process::Flow => (sigma.min(BELOW_ONE), 1.0 - sigma_next, |sigma| (1.0 - sigma) / sigma),
        };
        let h = (ratio(sigma_next) / ratio(sigma)).ln();
        Self {
            sigma: sigma as f32,
            h,
            h_eta: h * (1.0 + eta),
            decay: sigma_next / sigma * (-h * eta).exp(),
            signal,
            renoise: sigma_next * (-(-2.0 * h * eta).exp_m1()).sqrt(),
        }
    }

    /// The share of the denoised latent in the result, `1 - exp(-h_eta)`.
    pub(crate) fn grown(&self) -> f64 {
        -(-self.h_eta).exp_m1()
    }

    /// What is left of `x`, what `denoised` and some `corrections` to it add, and fresh noise.
    pub(crate) fn stepped(
        &self,
        x: Latent,
        denoised: Tensor<4>,
        corrections: impl IntoIterator<Item = (f64, Tensor<4>)>,
        noise: &mut dyn Noise,
        s_noise: f64,
    ) -> Latent {
        let fresh = noise.next(&x).0 * (self.renoise * s_noise) as f32;
        let whole = x.0 * self.decay as f32 + denoised * (self.signal * self.grown()) as f32;
        let add = |sum, (factor, correction): (f64, Tensor<4>)| sum + correction * (self.signal * factor) as f32;
        Latent(corrections.into_iter().fold(whole, add) + fresh)
    }
}
