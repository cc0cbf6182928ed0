//! Heun's method for the exponential of the denoised latent: SEEDS-2 without noise, its second stage at the step's end.
//!
//! Reference: ComfyUI `sample_exp_heun_2_x0` (comfy/k_diffusion/sampling.py, 2026).

use super::seeds_2::{Noisy, Seeds2, Solver};
use crate::{Calls, Sampler, exploding::exploding};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("exp_heun_2_x0", "Exp Heun 2 x0", |start| {
        Ok(exploding(start, Seeds2 { noisy: Noisy::NOT, r: 1.0, solver: Solver::Phi2 }))
    })
    .about("An exponential integrator with a look at the step's end.")
    .calls(Calls::Each(2))
}
