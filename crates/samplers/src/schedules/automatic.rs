//! Whatever suits the sampler and the model: A1111's `Automatic`.
//!
//! [`Schedule::resolved`] says which schedule that is. Without a sampler it is Forge's for one without a choice of its
//! own (`KDiffusionSampler.get_sigmas`, modules/sd_samplers_kdiffusion.py, dfdcbab): `normal` on Stable Diffusion's levels. For a flow,
//! where Forge's own is far out of range (sigmas of thousands), it is `simple`, which its users were told to choose instead.

use super::{normal, simple};
use crate::{Options, Schedule, SigmaSpace, schedule::AUTOMATIC};

pub(crate) fn schedule() -> Schedule {
    Schedule::of(AUTOMATIC, "Automatic", levels)
        .about("What suits the sampler and the model: A1111's choice for Stable Diffusion, `simple` for a flow.")
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    match space {
        SigmaSpace::Flow { .. } => simple::levels(space, steps, options),
        _ => normal::levels(space, steps, options),
    }
}
