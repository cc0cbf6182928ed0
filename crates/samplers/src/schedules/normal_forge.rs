//! `normal` as Forge has it on a flow: even steps of sigma.
//!
//! Reference: Forge `normal_scheduler` (modules/sd_schedulers.py, dfdcbab), whose predictor takes sigma for time on a flow
//! (backend/modules/k_prediction.py, `PredictionFlux`).

use super::{SIGMA_MAX, SIGMA_MIN, ends, linspace, torch_linspace};
use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("normal_forge", "Normal (Forge)", levels)
        .about("`normal`, but even steps of sigma on a flow, and between levels that can be set.")
        .params([SIGMA_MIN.param(), SIGMA_MAX.param()])
}

pub(super) fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    match space {
        SigmaSpace::Flow { .. } => linspace(last, first, steps).collect(),
        _ => {
            let [last, first] = [last, first].map(|level| space.nearest(level) as f64);
            torch_linspace(space, last, first, steps).into_iter().map(|t| space.rounded_sigma(t)).collect()
        }
    }
}
