//! Two arc tangents, joined in the middle between the model's ends.
//!
//! Reference: stable-diffusion.cpp `BongTangentScheduler` (src/runtime/denoiser.hpp, 97d2990), after RES4LYF's.

use crate::{Options, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("bong_tangent", "Bong Tangent", levels)
        .about("Two arc tangents, joined in the middle between the model's ends.")
}

const PIVOT: f64 = 0.6;
const SLOPE: f64 = 0.2;
/// The number of levels that [`SLOPE`] is meant for.
const LEVELS: f64 = 40.0;

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let (first, last) = space.ends();
    let middle = last + (first - last) / 2.0;
    let all = steps + 2;
    let pivot = (all as f64 * PIVOT) as usize;
    let slope = SLOPE * LEVELS / all as f64;
    let mut levels = arc(pivot, slope, pivot as f64, [first, middle]);
    levels.pop();
    levels.extend(arc(all - pivot, slope, 0.0, [middle, last]));
    levels.truncate(steps);
    levels
}

fn arc(n: usize, slope: f64, pivot: f64, [first, last]: [f64; 2]) -> Vec<f64> {
    let at = |i: usize| (-slope * (i as f64 - pivot)).atan();
    let (top, bottom) = (at(0), at(n.max(1) - 1));
    let level = |i| if n == 1 { first } else { last + (first - last) * (at(i) - bottom) / (top - bottom) };
    (0..n).map(level).collect()
}
