//! What the stochastic DPM-Solver++ samplers share: a step on the scale of log sigma, on variance-exploding noise.
//!
//! Reference: k-diffusion `sample_dpmpp_2m_sde`, commit 4601bf0.

use core_tensor::{Latent, Tensor};

use crate::{Noise, Step};

/// A step from one level to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sde {
    sigma: f32,
    sigma_next: f32,
    /// Its length in log sigma; infinite if it ends in 0.
    pub(crate) h: f64,
    /// The length with what is added for the noise.
    pub(crate) h_eta: f64,
    /// What is left of the latent.
    decay: f64,
    /// The standard deviation of the noise that is added.
    renoise: f64,
}

impl Sde {
    /// `eta` is how much noise is drawn anew: 0 makes the step deterministic.
    pub(crate) fn of(at: Step, eta: f64) -> Self {
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let h = (sigma / sigma_next).ln();
        Self {
            sigma: at.sigma(),
            sigma_next: at.sigma_next(),
            h,
            h_eta: h * (1.0 + eta),
            decay: sigma_next / sigma * (-h * eta).exp(),
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
        let strength = self.renoise * s_noise;
        let fresh = (strength > 0.0).then(|| noise.between(&x, self.sigma, self.sigma_next).0 * strength as f32);
        let whole = x.0 * self.decay as f32 + denoised * self.grown() as f32;
        let add = |sum, (factor, correction): (f64, Tensor<4>)| sum + correction * factor as f32;
        let sum = corrections.into_iter().fold(whole, add);
        Latent(match fresh {
            Some(fresh) => sum + fresh,
            None => sum,
        })
    }
}
