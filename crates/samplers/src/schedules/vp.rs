//! Even steps of the time of a variance-preserving process whose noise rate rises evenly.
//!
//! Reference: k-diffusion `get_sigmas_vp`, commit 4601bf0. Its highest level, about 152, is its own and not the model's.

use super::linspace;
use crate::{Options, Schedule, Setting, SigmaSpace, Spaces, options::number};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("vp", "VP", levels)
        .about("Even steps of the time of a variance-preserving process; its levels are its own and not the model's.")
        .spaces(Spaces::Discrete)
        .params([BETA_D.param(), BETA_MIN.param(), EPS_S.param()])
}

// k-diffusion get_sigmas_vp has all defaults.
static BETA_D: Setting<f64> = number("beta_d", "VP beta d", [19.9, 0.1, 100.0], "How fast the noise rate rises.");
static BETA_MIN: Setting<f64> = number("beta_min", "VP beta min", [0.1, 0.001, 10.0], "The noise rate at the data.");
static EPS_S: Setting<f64> = number("eps_s", "VP eps s", [1e-3, 1e-6, 0.5], "The time of the last level.");

fn levels(_: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    let [beta_d, beta_min, eps_s] = [&BETA_D, &BETA_MIN, &EPS_S].map(|param| options.get(param));
    linspace(1.0, eps_s, steps).map(|t| (beta_d * t.powi(2) / 2.0 + beta_min * t).exp_m1().sqrt()).collect()
}
