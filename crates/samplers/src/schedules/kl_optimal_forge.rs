//! Even steps of the arc tangent of sigma down to the model's lowest level, where Forge's own ends.
//!
//! Reference: Forge `kl_optimal` (modules/sd_schedulers.py, dfdcbab).

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace};
use crate::{End, Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("kl_optimal_forge", "KL Optimal (Forge)", levels)
        .about("As `kl_optimal`, but it ends in the model's lowest level: a little noise stays.")
        .end(End::Last)
        .params([SIGMA_MIN.param(), SIGMA_MAX.param()])
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    let [from, to] = [last, first].map(f64::atan);
    if !space.is_table() {
        return linspace(from, to, steps + 1).map(f64::tan).collect();
    }
    // rounded as torch rounds it in f32
    let share = |i: usize| i as f32 / steps as f32;
    let angle = |share: f32| share * to as f32 + (1.0 - share) * from as f32;
    (0..=steps).map(|i| f64::from(angle(share(i))).tan()).collect()
}
