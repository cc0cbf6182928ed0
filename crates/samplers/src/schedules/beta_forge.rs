//! Levels between the model's ends at the quantiles of a beta distribution: dense at both ends of sigma, not of time.
//!
//! Reference: Forge `beta_scheduler` (modules/sd_schedulers.py, dfdcbab).

use super::{
    SIGMA_MAX, SIGMA_MIN,
    beta::{SHAPE, quantile, shape},
    ends, linspace,
};
use crate::{Options, Schedule, Setting, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("beta_forge", "Beta (Forge)", levels)
        .about("Levels between the model's ends at the quantiles of a beta distribution.")
        .params(SHAPE.into_iter().chain([&SIGMA_MIN, &SIGMA_MAX]).map(Setting::param))
}

fn levels(space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let (last, first) = ends(space, options);
    linspace(1.0, 0.0, steps).map(|p| first + (last - first) * quantile(p, shape(options))).collect()
}
