//! The ancestral Euler step: further down than asked, then noise back up.
//!
//! References: k-diffusion `sample_euler_ancestral`, commit 4601bf0; for rectified flow, where the signal shrinks as noise
//! grows, ComfyUI `sample_euler_ancestral_RF` (v0.3.64), which keeps `(1 - sigma)` of the signal at every level.

use core_tensor::Latent;

use crate::{Denoiser, Error, Noise, Process, Sampler, Step, Stepper};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "euler_ancestral",
    label: "Euler a",
    aliases: &["k_euler_a", "k_euler_ancestral", "euler_a"],
    evals_per_step: 1,
    stochastic: true,
    start: |process| Box::new(EulerAncestral { process, eta: ETA, s_noise: S_NOISE }),
};

const ETA: f32 = 1.0; // k-diffusion sample_euler_ancestral
const S_NOISE: f32 = 1.0; // k-diffusion sample_euler_ancestral

struct EulerAncestral {
    process: Process,
    eta: f32,
    s_noise: f32,
}

impl Stepper for EulerAncestral {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma)?;
        if at.sigma_next == 0.0 {
            return Ok(denoised);
        }
        let down = match self.process {
            Process::Diffusion => self.diffusion(at),
            Process::Flow => self.flow(at),
        };
        let ratio = down.sigma / at.sigma;
        let x = x.0 * ratio + denoised.0 * (1.0 - ratio);
        if down.renoise == 0.0 {
            return Ok(Latent(x * down.signal));
        }
        let noise = noise.next(&Latent(x.clone())).0;
        Ok(Latent(x * down.signal + noise * (down.renoise * self.s_noise)))
    }
}

/// Where the deterministic part of a step goes, and how it comes back.
struct Down {
    sigma: f32,
    signal: f32,
    renoise: f32,
}

impl EulerAncestral {
    fn diffusion(&self, Step { sigma, sigma_next, .. }: Step) -> Down {
        let variance = sigma_next.powi(2) * (sigma.powi(2) - sigma_next.powi(2)) / sigma.powi(2);
        let sigma_up = sigma_next.min(self.eta * variance.sqrt());
        Down { sigma: (sigma_next.powi(2) - sigma_up.powi(2)).sqrt(), signal: 1.0, renoise: sigma_up }
    }

    fn flow(&self, Step { sigma, sigma_next, .. }: Step) -> Down {
        let sigma_down = sigma_next * (1.0 + (sigma_next / sigma - 1.0) * self.eta);
        let signal = (1.0 - sigma_next) / (1.0 - sigma_down);
        let variance = sigma_next.powi(2) - sigma_down.powi(2) * signal.powi(2);
        Down { sigma: sigma_down, signal, renoise: variance.max(0.0).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_form_keeps_signal_and_noise_at_every_level() {
        for eta in [0.0, 0.3, 1.0] {
            let stepper = EulerAncestral { process: Process::Flow, eta, s_noise: 1.0 };
            for (sigma, sigma_next) in [(1.0, 0.8), (0.8, 0.5), (0.3, 0.01)] {
                let down = stepper.flow(Step { index: 0, sigma, sigma_next });
                let signal = (1.0 - down.sigma) * down.signal;
                let noise = (down.sigma * down.signal).hypot(down.renoise);
                assert!((signal - (1.0 - sigma_next)).abs() < 1e-6, "{signal}");
                assert!((noise - sigma_next).abs() < 1e-6, "{noise}");
            }
        }
    }

    #[test]
    fn without_eta_nothing_is_added() {
        let stepper = EulerAncestral { process: Process::Diffusion, eta: 0.0, s_noise: 1.0 };
        let down = stepper.diffusion(Step { index: 0, sigma: 2.0, sigma_next: 1.0 });
        assert_eq!((down.sigma, down.renoise), (1.0, 0.0));
    }
}
