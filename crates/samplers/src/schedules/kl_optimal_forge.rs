//! Even steps of the arc tangent of sigma down to the model's lowest level, where Forge's own ends.
//!
//! Reference: Forge `kl_optimal` (modules/sd_schedulers.py, dfdcbab).

use super::linspace;
use crate::{End, Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("kl_optimal_forge", "KL Optimal (Forge)", levels)
        .about("As `kl_optimal`, but it ends in the model's lowest level: a little noise stays.")
        .end(End::Last)
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (last, first) = space.ends();
    linspace(last.atan(), first.atan(), steps + 1).map(f64::tan).collect()
}
