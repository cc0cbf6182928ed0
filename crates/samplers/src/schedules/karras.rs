//! Even steps of the seventh root of sigma.
//!
//! Reference: Karras et al. 2022, equation 5; k-diffusion `get_sigmas_karras`, commit 4601bf0.

use super::linspace;
use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "karras", label: "Karras", aliases: &[], spaces: Spaces::All, levels };

const RHO: f64 = 7.0; // k-diffusion get_sigmas_karras

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    let (last, first) = space.ends();
    linspace(last.powf(1.0 / RHO), first.powf(1.0 / RHO), steps).map(|root| root.powf(RHO)).collect()
}
