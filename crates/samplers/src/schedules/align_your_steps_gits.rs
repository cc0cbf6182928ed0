//! Forge's levels after GITS, interpolated as its Align Your Steps are.
//!
//! References: Chen et al. 2024 (On the Trajectory Regularity of ODE-based Diffusion Sampling, arXiv 2405.11326); Forge
//! `get_align_your_steps_sigmas_GITS` (modules/sd_schedulers.py, dfdcbab).

use super::{align_your_steps_forge::model, log_linear};
use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_gits", "Align Your Steps GITS", levels)
        .about("Forge's levels after GITS, interpolated as its Align Your Steps are.")
        .spaces(Spaces::Discrete)
        .params([model().param()])
}

const TABLES: [[f64; 11]; 2] = [
    [14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029],
    [14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029],
];

fn levels(_: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    log_linear(&TABLES[options.get(&model())], steps)
}
