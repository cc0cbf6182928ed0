//! The exponential integrator that remembers one step, with CFG++.
//!
//! References: as [`res_multistep`](super::res_multistep); Chung et al. 2024 (CFG++, arXiv 2406.08070).

use super::res_multistep::ResMultistep;
use crate::{Sampler, ancestral::Ancestral, exploding::exploding};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("res_multistep_cfg_pp", "Res Multistep CFG++", |start| {
        Ok(exploding(start, ResMultistep::of(Ancestral::fixed(start, 0.0).on_exploding(), true)))
    })
    .about("Res Multistep whose new noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
    .needs_negative()
}
