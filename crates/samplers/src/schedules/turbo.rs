//! Even picks from the table, each the last of its share: made for few steps with distilled models.
//!
//! Reference: Forge `turbo_scheduler` (modules/sd_schedulers.py, dfdcbab).

use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("turbo", "Turbo", levels)
        .about("Even picks from the table, each the last of its share: for few steps with distilled models.")
        .spaces(Spaces::Discrete)
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let space = space.whole();
    let table = space.levels();
    let last_of = |share: usize| (share as f64 * table as f64 / steps as f64 - 1.0).round_ties_even();
    (1..=steps).rev().map(|share| space.rounded_sigma(last_of(share))).collect()
}
