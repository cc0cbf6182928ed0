//! The Euler step with CFG++.
//!
//! References: as [`euler_ancestral_cfg_pp`](super::euler_ancestral_cfg_pp), without its noise.

use super::euler_ancestral_cfg_pp::EulerCfgPp;
use crate::{Sampler, ancestral::Ancestral};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("euler_cfg_pp", "Euler CFG++", |start| {
        Ok(Box::new(EulerCfgPp { ancestral: Ancestral::fixed(start, 0.0), guidance: 1.0 }))
    })
    .aliases(["k_euler_cfg_pp"])
    .about("Euler whose noise is what the model sees without the prompt. Guidance is best at 1 to 2.")
    .needs_negative()
}
