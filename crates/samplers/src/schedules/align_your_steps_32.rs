//! Levels that were optimised for ten steps of a model and refined to 32.
//!
//! Reference: Forge `ays_32_sigmas` (modules/sd_schedulers.py, dfdcbab).

use super::{align_your_steps_forge::model, log_linear};
use crate::{Options, Schedule, SigmaSpace, Spaces};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("align_your_steps_32", "Align Your Steps 32", levels)
        .aliases(["AYS 32"])
        .about("The levels of Align Your Steps refined to 32, down to 0.015.")
        .spaces(Spaces::Discrete)
        .params([model().param()])
}

const TABLES: [[f64; 32]; 2] = [
    [
        14.615,
        11.23951352,
        8.64363081,
        6.64729424,
        5.57250862,
        4.71648546,
        3.99196065,
        3.5195609,
        3.13490466,
        2.79228788,
        2.48773628,
        2.21663865,
        1.97508351,
        1.7793172,
        1.61475335,
        1.46540953,
        1.314849,
        1.16642497,
        1.03475547,
        0.91573744,
        0.80748169,
        0.71202361,
        0.621739,
        0.53065202,
        0.4529096,
        0.37491455,
        0.27461819,
        0.2011529,
        0.14105873,
        0.06682881,
        0.03166121,
        0.015,
    ],
    [
        14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457, 2.74396527,
        2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443, 0.80290886, 0.69660121,
        0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517, 0.26518925, 0.22326461, 0.17653877,
        0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015,
    ],
];

fn levels(_: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    log_linear(&TABLES[options.get(&model())], steps)
}
