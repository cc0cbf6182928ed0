//! The schedules, one file each. Adding one is its file, its `mod` and its line of [`ALL`].

pub(crate) mod automatic;
mod beta;
mod beta_forge;
mod ddim_uniform;
pub(crate) mod exponential;
pub(crate) mod flux;
pub(crate) mod karras;
mod kl_optimal;
mod linear_quadratic;
pub(crate) mod normal;
mod polyexponential;
mod sgm_uniform;
pub(crate) mod simple;
mod turbo;

use crate::Schedule;

/// Every schedule, in the order in which they are listed.
pub static ALL: &[&Schedule] = &[
    &automatic::SCHEDULE,
    &simple::SCHEDULE,
    &flux::SCHEDULE,
    &normal::SCHEDULE,
    &sgm_uniform::SCHEDULE,
    &ddim_uniform::SCHEDULE,
    &karras::SCHEDULE,
    &exponential::SCHEDULE,
    &polyexponential::SCHEDULE,
    &beta::SCHEDULE,
    &beta_forge::SCHEDULE,
    &kl_optimal::SCHEDULE,
    &linear_quadratic::SCHEDULE,
    &turbo::SCHEDULE,
];

/// `n` numbers from `first` to `last` in even steps; only the first if there is one.
fn linspace(first: f64, last: f64, n: usize) -> impl Iterator<Item = f64> {
    let step = (last - first) / (n.max(2) - 1) as f64;
    (0..n).map(move |i| if i > 0 && i + 1 == n { last } else { first + step * i as f64 })
}
