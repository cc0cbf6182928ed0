//! Whatever suits the sampler and the model: A1111's `Automatic`.
//!
//! [`Schedule::resolved`] says which schedule that is. With no sampler in sight it is Forge's for one without a choice of its
//! own (`KDiffusionSampler.get_sigmas`, modules/sd_samplers_kdiffusion.py, dfdcbab): `normal` on Stable Diffusion's levels. For a flow,
//! where Forge's own is far out of range (sigmas of thousands), it is `simple`, which its users were told to choose instead.

use super::{normal, simple};
use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "automatic", label: "Automatic", aliases: &[], spaces: Spaces::All, levels };

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    match space {
        SigmaSpace::Flow { .. } => (simple::SCHEDULE.levels)(space, steps),
        SigmaSpace::Discrete => (normal::SCHEDULE.levels)(space, steps),
    }
}
