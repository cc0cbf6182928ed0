//! The exponential integrator that remembers one step, with noise.
//!
//! References: as [`res_multistep`](super::res_multistep); the noise of a rectified flow is that of `euler_ancestral`, as in
//! stable-diffusion.cpp (97d2990).

use super::res_multistep::ResMultistep;
use crate::{
    Sampler,
    ancestral::Ancestral,
    options::{ETA, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("res_multistep_ancestral", "Res Multistep a", |start| {
        Ok(Box::new(ResMultistep::of(Ancestral::of(start, &ETA), false)))
    })
    .about("Res Multistep further down than asked, then noise back up.")
    .stochastic()
    .params([ETA.param(), S_NOISE.param()])
}
