//! DDIM: towards the denoised latent, with as much new noise as `eta` says.
//!
//! Reference: Song et al. 2021 (DDIM), equation 12. On latents in units of the data it is an ancestral Euler step.

use super::euler_ancestral::EulerAncestral;
use crate::{
    Sampler,
    ancestral::Ancestral,
    options::{ETA_0, S_NOISE},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ddim", "DDIM", |start| Ok(Box::new(EulerAncestral { ancestral: Ancestral::of(start, &ETA_0) })))
        .aliases(["k_ddim", "ddim_trailing", "DDIMScheduler"])
        .about("Towards the denoised latent, with as much new noise as `eta` says. ComfyUI's sampler of that name is Euler, as this is where \
            `eta` is 0. With the profiles `forge` and `a1111` it takes no schedule's levels but evenly strided times, and stops at the second \
            level of the table: a little noise stays.")
        .params([ETA_0.param(), S_NOISE.param()])
        .diffusion_alone("euler")
        .automatic(schedules::ddim_uniform::schedule())
}
