//! The Euler step with CFG++.
//!
//! References: as [`euler_ancestral_cfg_pp`](super::euler_ancestral_cfg_pp), without its noise.

use super::euler_ancestral_cfg_pp::EulerCfgPp;
use crate::{Sampler, ancestral::Ancestral};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "euler_cfg_pp",
    label: "Euler CFG++",
    aliases: &["k_euler_cfg_pp"],
    about: "Euler whose noise is what the model sees without the prompt. Guidance is best at 1 to 2.",
    needs_negative: true,
    start: |start| Box::new(EulerCfgPp { ancestral: Ancestral::fixed(start, 0.0), guidance: 1.0 }),
    ..Sampler::PLAIN
};
