//! SA-Solver that asks the model again after every correction.
//!
//! References: as [`sa_solver`](super::sa_solver); ComfyUI `sample_sa_solver_pece` (v0.3.64).

use super::sa_solver::{PARAMS, SaSolver};
use crate::{Calls, Sampler, exploding::exploding};

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "sa_solver_pece",
    label: "SA-Solver PECE",
    about: "SA-Solver that asks the model again after every correction.",
    calls: Calls::Each(2),
    stochastic: true,
    params: &PARAMS,
    start: |start| exploding(start, SaSolver::of(start, true)),
    ..Sampler::PLAIN
};
