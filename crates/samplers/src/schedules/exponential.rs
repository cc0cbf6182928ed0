//! Even steps of log sigma.
//!
//! Reference: k-diffusion `get_sigmas_exponential`, commit 4601bf0.

use super::linspace;
use crate::{Schedule, SigmaSpace, schedule::Spaces};

pub(crate) static SCHEDULE: Schedule =
    Schedule { id: "exponential", label: "Exponential", aliases: &[], spaces: Spaces::All, levels };

fn levels(space: &SigmaSpace, steps: usize) -> Vec<f64> {
    let (last, first) = space.ends();
    linspace(last.ln(), first.ln(), steps).map(f64::exp).collect()
}
