//! Noise added before a step, to be removed by it: the stochastic part of Karras et al. 2022, algorithm 2.
//!
//! Reference: k-diffusion `sample_euler`, commit 4601bf0. On a rectified flow the level rises by the same factor in
//! `sigma / (1 - sigma)`, and the signal shrinks with it; ComfyUI adds the noise as if the signal stayed.

use core_tensor::Latent;

use crate::{
    Noise, Param, Process, Setting, Start, Step,
    options::{S_NOISE, number},
};

static S_CHURN: Setting<f64> = number(
    "s_churn",
    "Sigma churn",
    [0.0, 0.0, 100.0],
    "How much noise is added before each step, in all steps together; 0 adds none.",
);
static S_TMIN: Setting<f64> =
    number("s_tmin", "Sigma tmin", [0.0, 0.0, 1e4], "The lowest sigma at which `s_churn` adds noise.");
static S_TMAX: Setting<f64> = number(
    "s_tmax",
    "Sigma tmax",
    [f64::INFINITY, 0.0, f64::INFINITY],
    "The highest sigma at which `s_churn` adds noise.",
);

/// What samplers with it can be told.
pub(crate) fn params() -> [Param; 4] {
    SETTINGS.map(Setting::param)
}

static SETTINGS: [&Setting<f64>; 4] = [&S_CHURN, &S_TMIN, &S_TMAX, &S_NOISE];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Churn {
    process: Process,
    s_churn: f64,
    s_tmin: f64,
    s_tmax: f64,
    s_noise: f64,
}

impl Churn {
    pub(crate) fn of(start: &Start) -> Self {
        let [s_churn, s_tmin, s_tmax, s_noise] = SETTINGS.map(|setting| start.get(setting));
        Self { process: start.space.process(), s_churn, s_tmin, s_tmax, s_noise }
    }

    /// The latent with noise added, and its level.
    pub(crate) fn up(&self, at: Step, x: Latent, noise: &mut dyn Noise) -> (Latent, f32) {
        let sigma = f64::from(at.sigma());
        let most = std::f64::consts::SQRT_2 - 1.0; // k-diffusion sample_euler
        let gamma = (self.s_churn / (at.sigmas().len() - 1) as f64).min(most);
        if gamma == 0.0 {
            return (x, at.sigma());
        }
        if !(self.s_tmin..=self.s_tmax).contains(&sigma) {
            // k-diffusion draws in every step, whether it adds what it draws or not.
            if self.process == Process::Diffusion {
                noise.next(&x);
            }
            return (x, at.sigma());
        }
        let (up, signal) = match self.process {
            Process::Diffusion => (sigma * (1.0 + gamma), 1.0),
            // Pure noise stays what it is.
            Process::Flow if sigma >= 1.0 => return (x, at.sigma()),
            Process::Flow => {
                let exploding = sigma / (1.0 - sigma) * (1.0 + gamma);
                (exploding / (1.0 + exploding), 1.0 / (1.0 + exploding) / (1.0 - sigma))
            }
        };
        let added = (up.powi(2) - (sigma * signal).powi(2)).sqrt() * self.s_noise;
        let fresh = noise.next(&x).0 * added as f32;
        (Latent(x.0 * signal as f32 + fresh), up as f32)
    }
}
