//! The schedules, one file each. Adding one is its file, its `mod` and its line of [`all`].

mod align_your_steps;
mod align_your_steps_32;
mod align_your_steps_forge;
mod align_your_steps_gits;
mod align_your_steps_sd1;
mod align_your_steps_sdxl;
mod align_your_steps_svd;
mod automatic;
mod beta;
mod beta57;
mod beta_forge;
mod bong_tangent;
pub(crate) mod ddim_uniform;
pub(crate) mod exponential;
mod gits;
pub(crate) mod karras;
mod kl_optimal;
mod kl_optimal_forge;
mod laplace;
pub(crate) mod lcm;
mod linear_quadratic;
mod logit_normal;
pub(crate) mod normal;
mod normal_forge;
mod polyexponential;
mod sgm_uniform;
mod sgm_uniform_forge;
pub(crate) mod simple;
mod smoothstep;
mod trailing;
mod turbo;
mod vp;

use crate::{
    Schedule, SigmaSpace,
    ends::{SIGMA_MAX, SIGMA_MIN, ends},
};

/// Every schedule, in the order in which they are listed.
pub(crate) fn all() -> Vec<Schedule> {
    vec![
        automatic::schedule(),
        simple::schedule(),
        normal::schedule(),
        normal_forge::schedule(),
        sgm_uniform::schedule(),
        sgm_uniform_forge::schedule(),
        trailing::schedule(),
        ddim_uniform::schedule(),
        karras::schedule(),
        exponential::schedule(),
        polyexponential::schedule(),
        vp::schedule(),
        laplace::schedule(),
        beta::schedule(),
        beta_forge::schedule(),
        beta57::schedule(),
        kl_optimal::schedule(),
        kl_optimal_forge::schedule(),
        linear_quadratic::schedule(),
        align_your_steps::schedule(),
        align_your_steps_forge::schedule(),
        align_your_steps_sd1::schedule(),
        align_your_steps_sdxl::schedule(),
        align_your_steps_svd::schedule(),
        align_your_steps_32::schedule(),
        align_your_steps_gits::schedule(),
        gits::schedule(),
        turbo::schedule(),
        lcm::schedule(),
        smoothstep::schedule(),
        logit_normal::schedule(),
        bong_tangent::schedule(),
    ]
}

/// `n` levels along straight lines of log sigma through those given, from the first to the last. One level is the first, where Forge
/// takes the last.
fn log_linear(given: &[f64], n: usize) -> Vec<f64> {
    if n == given.len() {
        return given.to_vec();
    }
    let level = |place: f64| {
        let below = (place.floor() as usize).min(given.len() - 2);
        let (here, there) = (given[below].ln(), given[below + 1].ln());
        (here + (there - here) * (place - below as f64)).exp()
    };
    linspace(0.0, (given.len() - 1) as f64, n).map(level).collect()
}

/// `n` numbers from `first` to `last` in even steps; only the first if there is one.
fn linspace(first: f64, last: f64, n: usize) -> impl Iterator<Item = f64> {
    let step = (last - first) / (n.max(2) - 1) as f64;
    (0..n).map(move |i| if i > 0 && i + 1 == n { last } else { first + step * i as f64 })
}

/// So many even steps from the first to the last: on a table's levels rounded as torch's `linspace` rounds in f32, counting from both
/// ends. Samplers that take their noise from a path see a level's last bits, as it is rough.
fn torch_linspace(space: &SigmaSpace, first: f64, last: f64, n: usize) -> Vec<f64> {
    if !space.is_table() {
        return linspace(first, last, n).collect();
    }
    let [first, last] = [first as f32, last as f32];
    let step = (last - first) / (n.max(2) - 1) as f32;
    let at = |i: usize| {
        if i < n / 2 || i == 0 { step.mul_add(i as f32, first) } else { (-step).mul_add((n - 1 - i) as f32, last) }
    };
    (0..n).map(|i| f64::from(at(i))).collect()
}
