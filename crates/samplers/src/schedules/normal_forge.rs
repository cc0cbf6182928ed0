//! `normal` as Forge has it on a flow: even steps of sigma.
//!
//! Reference: Forge `normal_scheduler` (modules/sd_schedulers.py, dfdcbab), whose predictor takes sigma for time on a flow
//! (backend/modules/k_prediction.py, `PredictionFlux`).

use super::{linspace, normal};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("normal_forge", "Normal (Forge)", levels).about("`normal`, but even steps of sigma on a flow.")
}

pub(super) fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    match space {
        SigmaSpace::Flow { .. } => {
            let (last, first) = space.ends();
            linspace(last, first, steps).collect()
        }
        _ => normal::levels(space, steps, options),
    }
}
