//! The two halves of an ancestral step: further down than asked, then noise back up.
//!
//! References: k-diffusion `get_ancestral_step`, commit 4601bf0; for rectified flow, where the signal shrinks as noise
//! grows, ComfyUI `sample_euler_ancestral_RF` (v0.3.64), which keeps `(1 - sigma)` of the signal at every level.

use core_tensor::{Latent, Tensor};

use crate::{Noise, Process, Setting, Start, Step, options::S_NOISE};

/// What an ancestral sampler is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ancestral {
    pub(crate) process: Process,
    /// How much of the noise is drawn anew: 0 makes a step deterministic, 1 is the whole of it.
    eta: f32,
    s_noise: f32,
}

impl Ancestral {
    /// `eta` is the sampler's own option of that name.
    pub(crate) fn of(start: &Start, eta: &Setting<f64>) -> Self {
        let (eta, s_noise) = (start.get(eta) as f32, start.get(&S_NOISE) as f32);
        Self { process: start.space.process(), eta, s_noise }
    }

    /// With all of the noise drawn anew, or none of it.
    pub(crate) fn fixed(start: &Start, eta: f32) -> Self {
        Self { process: start.space.process(), eta, s_noise: 1.0 }
    }

    /// The same on the latents that [`exploding`](crate::exploding) makes of a flow's.
    pub(crate) fn on_exploding(self) -> Self {
        Self { process: Process::Diffusion, ..self }
    }

    pub(crate) fn down(self, at: Step) -> Down {
        self.between([at.sigma(), at.sigma_next()])
    }

    /// Whether no noise is drawn.
    pub(crate) fn is_plain(self) -> bool {
        self.eta == 0.0
    }

    /// The same between two levels, but no further down than the `last` level of a run, which is not 0 (k-diffusion `dpm_solver_fast`).
    pub(crate) fn above(self, last: f32, [sigma, sigma_next]: [f32; 2]) -> Down {
        let down = Down::diffusion(sigma, sigma_next, self.eta);
        if down.sigma >= last {
            return Down { renoise: down.renoise * self.s_noise, ..down };
        }
        let up = (sigma_next.powi(2) - last.powi(2)).max(0.0).sqrt();
        Down { sigma: last, signal: 1.0, renoise: up * self.s_noise }
    }

    /// The same between two levels.
    pub(crate) fn between(self, [sigma, sigma_next]: [f32; 2]) -> Down {
        let half = match self.process {
            Process::Diffusion => Down::diffusion(sigma, sigma_next, self.eta),
            Process::Flow => Down::flow(sigma, sigma_next, self.eta),
        };
        Down { renoise: half.renoise * self.s_noise, ..half }
    }
}

/// Where the deterministic half goes, and how the other comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Down {
    /// The level that the deterministic half ends at.
    pub(crate) sigma: f32,
    /// What its result is multiplied by.
    pub(crate) signal: f32,
    /// The standard deviation of the noise that is added.
    pub(crate) renoise: f32,
}

impl Down {
    /// `sigma` may be infinite: pure noise of a flow, as [`exploding`](crate::exploding) counts.
    pub(crate) fn diffusion(sigma: f32, sigma_next: f32, eta: f32) -> Self {
        let [sigma, sigma_next, eta] = [sigma, sigma_next, eta].map(f64::from);
        let up = sigma_next.min(eta * sigma_next * (1.0 - (sigma_next / sigma).powi(2)).max(0.0).sqrt());
        Self { sigma: (sigma_next.powi(2) - up.powi(2)).sqrt() as f32, signal: 1.0, renoise: up as f32 }
    }

    fn flow(sigma: f32, sigma_next: f32, eta: f32) -> Self {
        let sigma_down = sigma_next * (1.0 + (sigma_next / sigma - 1.0) * eta);
        let signal = (1.0 - sigma_next) / (1.0 - sigma_down);
        let variance = sigma_next.powi(2) - sigma_down.powi(2) * signal.powi(2);
        Self { sigma: sigma_down, signal, renoise: variance.max(0.0).sqrt() }
    }

    /// The second half: from the level of `self` up to the step's own. Draws no noise where none is added.
    pub(crate) fn back_up(self, x: Tensor<4>, noise: &mut dyn Noise) -> Latent {
        if self.renoise == 0.0 {
            return Latent(x * self.signal);
        }
        let fresh = noise.next(&Latent(x.clone())).0;
        Latent(x * self.signal + fresh * self.renoise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_form_keeps_signal_and_noise_at_every_level() {
        for eta in [0.0, 0.3, 1.0] {
            for (sigma, sigma_next) in [(1.0, 0.8), (0.8, 0.5), (0.3, 0.01)] {
                let down = Down::flow(sigma, sigma_next, eta);
                let signal = (1.0 - down.sigma) * down.signal;
                let noise = (down.sigma * down.signal).hypot(down.renoise);
                assert!((signal - (1.0 - sigma_next)).abs() < 1e-6, "{signal}");
                assert!((noise - sigma_next).abs() < 1e-6, "{noise}");
            }
        }
    }

    #[test]
    fn without_eta_nothing_is_added() {
        let down = Down::diffusion(2.0, 1.0, 0.0);
        assert_eq!((down.sigma, down.renoise), (1.0, 0.0));
    }
}
