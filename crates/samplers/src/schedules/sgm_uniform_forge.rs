//! `sgm_uniform` as Forge has it on a flow: even steps of sigma, without the lowest.
//!
//! Reference: as [`super::normal_forge`].

use super::normal_forge;
use crate::{Options, Schedule, SigmaSpace};

pub(crate) static SCHEDULE: Schedule = Schedule {
    id: "sgm_uniform_forge",
    label: "SGM Uniform (Forge)",
    about: "`sgm_uniform`, but even steps of sigma on a flow.",
    levels,
    ..Schedule::PLAIN
};

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let mut levels = (normal_forge::SCHEDULE.levels)(space, steps + 1, options);
    levels.truncate(steps);
    levels
}
