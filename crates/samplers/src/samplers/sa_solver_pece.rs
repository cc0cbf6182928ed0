//! SA-Solver that asks the model again after every correction.
//!
//! References: as [`sa_solver`](super::sa_solver); ComfyUI `sample_sa_solver_pece` (v0.3.64).

use super::sa_solver::{SaSolver, params};
use crate::{Calls, Sampler, exploding::exploding};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("sa_solver_pece", "SA-Solver PECE", |start| Ok(exploding(start, SaSolver::of(start, true))))
        .about("SA-Solver that asks the model again after every correction.")
        .calls(Calls::Each(2))
        .stochastic()
        .params(params())
}
