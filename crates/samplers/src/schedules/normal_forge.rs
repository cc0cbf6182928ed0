//! `normal` as Forge has it on a flow: even steps of sigma.
//!
//! Reference: Forge `normal_scheduler` (modules/sd_schedulers.py, dfdcbab), whose predictor takes sigma for time on a flow
//! (backend/modules/k_prediction.py, `PredictionFlux`).

use super::{linspace, normal};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) static SCHEDULE: Schedule = Schedule {
    id: "normal_forge",
    label: "Normal (Forge)",
    about: "`normal`, but even steps of sigma on a flow.",
    levels,
    ..Schedule::PLAIN
};

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    match space {
        SigmaSpace::Flow { .. } => {
            let (last, first) = space.ends();
            linspace(last, first, steps).collect()
        }
        _ => (normal::SCHEDULE.levels)(space, steps, options),
    }
}
