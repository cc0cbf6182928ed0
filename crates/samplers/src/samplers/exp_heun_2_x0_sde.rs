//! [`exp_heun_2_x0`](super::exp_heun_2_x0) with noise: SEEDS-2 with its second stage at the step's end.
//!
//! Reference: ComfyUI `sample_exp_heun_2_x0_sde` (comfy/k_diffusion/sampling.py, 2026).

use super::seeds_2::{Noisy, Seeds2, Solver};
use crate::{
    Calls, Sampler,
    exploding::exploding,
    options::{ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("exp_heun_2_x0_sde", "Exp Heun 2 x0 SDE", |start| {
        Ok(exploding(start, Seeds2 { noisy: Noisy::of(start), r: 1.0, solver: Solver::Phi2 }))
    })
    .about("Exp Heun 2 x0 with noise.")
    .calls(Calls::Each(2))
    .stochastic()
    .params([ETA.param(), S_NOISE.param()])
}
