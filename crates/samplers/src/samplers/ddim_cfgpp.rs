//! DDIM with CFG++, as A1111 and Forge have it: a guidance of 12.5 is all of it.
//!
//! References: Chung et al. 2024 (CFG++, arXiv 2406.08070); Forge `ddim_cfgpp` (modules/sd_samplers_timesteps_impl.py, dfdcbab).

use super::euler_ancestral_cfg_pp::EulerCfgPp;
use crate::{
    Sampler,
    ancestral::Ancestral,
    options::{ETA_0, S_NOISE},
    schedules,
};

/// How much the guidance counts (A1111 modules/sd_samplers_timesteps_impl.py `ddim_cfgpp`: cond_scale_miltiplier, 1.10).
pub(super) const SHARE: f32 = 1.0 / 12.5;

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ddim_cfgpp", "DDIM CFG++", |start| {
        Ok(Box::new(EulerCfgPp { ancestral: Ancestral::of(start, &ETA_0), guidance: SHARE }))
    })
    .aliases(["k_ddim_cfgpp"])
    .about("DDIM whose noise is what the model sees without the prompt, and whose guidance counts for a 12.5th. The profile `forge` counts \
        all of it, and that and `a1111` change its levels as they do DDIM's.")
    .needs_negative()
    .params([ETA_0.param(), S_NOISE.param()])
    .diffusion_alone("euler_cfg_pp")
    .automatic(schedules::ddim_uniform::schedule())
}
