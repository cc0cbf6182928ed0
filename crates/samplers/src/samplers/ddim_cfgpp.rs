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

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ddim_cfgpp", "DDIM CFG++", |start| {
        Ok(Box::new(EulerCfgPp { ancestral: Ancestral::of(start, &ETA_0), guidance: 1.0 / 12.5 }))
    })
    .aliases(["k_ddim_cfgpp"])
    .about("DDIM whose noise is what the model sees without the prompt, and whose guidance counts for a 12.5th.")
    .needs_negative()
    .params([ETA_0.param(), S_NOISE.param()])
    .diffusion_alone("euler_cfg_pp")
    .automatic(schedules::ddim_uniform::schedule())
}
