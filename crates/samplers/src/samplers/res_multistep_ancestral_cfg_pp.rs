//! The exponential integrator that remembers one step, with noise, with CFG++.
//!
//! References: as [`res_multistep`](super::res_multistep); Chung et al. 2024 (CFG++, arXiv 2406.08070).

use super::res_multistep::ResMultistep;
use crate::{
    Sampler,
    ancestral::Ancestral,
    exploding::exploding,
    options::{ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("res_multistep_ancestral_cfg_pp", "Res Multistep a CFG++", |start| {
        Ok(exploding(start, ResMultistep::of(Ancestral::of(start, &ETA).on_exploding(), true)))
    })
    .about("Res Multistep a whose new noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
    .stochastic()
    .needs_negative()
    .params([ETA.param(), S_NOISE.param()])
}
