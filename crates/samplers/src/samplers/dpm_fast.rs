//! DPM-Solver-Fast: steps of the third order, even in log sigma, with as many model calls as steps were asked for.
//!
//! References: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), section 3.4; k-diffusion `sample_dpm_fast`, commit 4601bf0.

use core_tensor::Latent;

use super::dpm_solver::{Slopes, first_order, second_order, third_order};
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Setting, Start, Step, Stepper,
    ancestral::Ancestral,
    options::{ETA_0, S_NOISE},
};

pub(crate) fn sampler() -> Sampler {
    with(&ETA_0)
}

/// The sampler with an `eta` of another default.
pub(super) fn with(eta: &'static Setting<f64>) -> Sampler {
    Sampler::new("dpm_fast", "DPM fast", move |start| Ok(Box::new(DpmFast { ancestral: Ancestral::of(start, eta), calls: start.steps })))
        .aliases(["k_dpm_fast", "DPMFast"])
        .about("Steps of the third order with as many model calls as steps were asked for. It takes no schedule's levels but its own, even in \
            log sigma, and ends in the model's lowest: a little noise stays. With the profiles `forge` and `a1111` \
            `eta` is 1 unless it is set.")
        .calls(Calls::Steps)
        .params([eta.param(), S_NOISE.param()])
        .diffusion_alone("dpmpp_2m")
        .levels(|start, given| Ok(levels(start, given[0].into())))
}

#[derive(Clone)]
struct DpmFast {
    ancestral: Ancestral,
    calls: usize,
}

impl Stepper for DpmFast {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let left = at.sigmas().len() - 1 - at.index();
        let order = match (self.calls % 3, left) {
            (0, 1) => 1,
            (0, 2) => 2,
            (n, 1) => n,
            _ => 3,
        };
        let last = at.sigmas()[at.sigmas().len() - 1];
        let down = self.ancestral.above(last, [at.sigma(), at.sigma_next()]);
        let mut slopes = Slopes::of(&x, at.sigma(), model)?;
        let lower = match order {
            1 => first_order(&x, &slopes, down.sigma),
            2 => second_order(&x, &mut slopes, down.sigma, 0.5, model)?,
            _ => third_order(&x, &mut slopes, down.sigma, model)?,
        };
        Ok(down.back_up(lower, noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// The levels of a run that begins at the `first`.
pub(super) fn levels(start: &Start, first: f64) -> Vec<f32> {
    let (steps, last) = (start.steps / 3 + 1, start.space.ends().1);
    (0..=steps).map(|i| (first * (last / first).powf(i as f64 / steps as f64)) as f32).collect()
}
