//! DDPM: the mean of the step before, and its noise.
//!
//! Reference: Ho et al. 2020 (DDPM), equations 6 and 7, over the levels of the run. On latents in units of the data it is an ancestral
//! Euler step that draws all of its noise anew.

use super::euler_ancestral::EulerAncestral;
use crate::{Sampler, ancestral::Ancestral};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("ddpm", "DDPM", |start| Ok(Box::new(EulerAncestral { ancestral: Ancestral::fixed(start, 1.0) })))
        .aliases(["DDPMScheduler"])
        .about("The posterior's mean and its noise, as models are trained. With the profile `forge` the noise of its steps has a seed of its \
            own.")
        .stochastic()
        .diffusion_alone("euler_ancestral")
}
