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
        .about("Towards the denoised latent, with as much new noise as `eta` says. A1111 and Forge run it on `ddim_uniform` levels and stop \
            at the lowest of them; ComfyUI's sampler of that name is Euler, as this is where `eta` is 0.")
        .params([ETA_0.param(), S_NOISE.param()])
        .diffusion_alone("euler")
        .automatic(schedules::ddim_uniform::schedule())
}
