//! Steps of log sigma along a power; with the power 1 the same as `exponential`.
//!
//! Reference: k-diffusion `get_sigmas_polyexponential`, commit 4601bf0.

use super::linspace;
use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "polyexponential", label: "Polyexponential", aliases: &[], spaces: Spaces::All, levels };

const RHO: f64 = 1.0; // k-diffusion get_sigmas_polyexponential

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    let (last, first) = space.ends();
    linspace(1.0, 0.0, steps).map(|t| (first.ln() + (last / first).ln() * t.powf(RHO)).exp()).collect()
}
