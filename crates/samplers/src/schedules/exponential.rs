//! Even steps of log sigma.
//!
//! Reference: k-diffusion `get_sigmas_exponential`, commit 4601bf0.

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) static SCHEDULE: Schedule = Schedule {
    id: "exponential",
    label: "Exponential",
    aliases: &[],
    about: "Even steps of log sigma.",
    params: &[&SIGMA_MIN, &SIGMA_MAX],
    levels,
    ..Schedule::PLAIN
};

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    linspace(last.ln(), first.ln(), steps).map(f64::exp).collect()
}
