//! DPM-Solver with steps as long as an estimate of their error allows.
//!
//! References: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), appendix C; k-diffusion `sample_dpm_adaptive`, commit 4601bf0. A
//! picture's steps depend on that picture alone, where k-diffusion measures the error over a batch.

use std::iter;

use core_tensor::{Latent, Tensor, on_host};

use super::dpm_solver::{Slopes, first_order, second_order, third_order};
use crate::{
    Calls, Denoiser, Error, Noise, Param, Sampler, Schedule, Setting, Start, Step, Stepper,
    ancestral::Ancestral,
    options::{ETA_0, S_NOISE, number, whole},
};

pub(crate) fn sampler() -> Sampler {
    with(&ETA_0)
}

/// The sampler with an `eta` of another default.
pub(super) fn with(eta: &'static Setting<f64>) -> Sampler {
    Sampler::new("dpm_adaptive", "DPM adaptive", move |start| {
        let [rtol, atol, h_init, pcoeff, icoeff, dcoeff, accept_safety] = NUMBERS.map(|param| start.get(param));
        let order = start.get(&ORDER);
        let ancestral = Ancestral::of(start, eta);
        // k-diffusion dpm_solver_adaptive: half an order is lost with the noise.
        let rate = if ancestral.is_plain() { order as f64 } else { 1.5 }; Ok(Box::new(DpmAdaptive {
            ancestral,
            order,
            rtol,
            atol,
            h_init,
            powers: [(pcoeff + icoeff + dcoeff) / rate, -(pcoeff + 2.0 * dcoeff) / rate, dcoeff / rate],
            accept_safety,
        })) })
        .aliases(["k_dpm_ad", "k_dpm_adaptive", "DPMAdaptive"])
        .about("Steps as long as an estimate of their error allows. It takes neither a schedule's levels nor a number of steps, and ends in \
            the model's lowest level: a little noise stays. It gives up after 3000 model calls for a picture. With the \
            profiles `forge` and `a1111` `eta` is 1 unless it is set.")
        .calls(Calls::Varying)
        .params(params().chain([eta.param(), S_NOISE.param()]))
        .diffusion_alone("dpmpp_2m")
        .levels(|start, given| Ok(levels(start, given[0].into())))
}

/// The levels of a run that begins at the `first`.
pub(super) fn levels(start: &Start, first: f64) -> Vec<f32> {
    vec![first as f32, start.space.ends().1 as f32]
}

/// The most model calls for one picture: those of [`Schedule::MAX_STEPS`] steps of order 3. A model whose answers don't hang together
/// satisfies no estimate of an error, and k-diffusion goes on for ever.
const MOST_CALLS: usize = 3 * Schedule::MAX_STEPS;

// k-diffusion sample_dpm_adaptive has all defaults.
static ORDER: Setting<usize> = whole("order", "Order", [3, 2, 3], "The order of the steps.");
static RTOL: Setting<f64> =
    number("rtol", "Rtol", [0.05, 1e-6, 1.0], "The error that is allowed, as a share of the latent.");
static ATOL: Setting<f64> = number("atol", "Atol", [0.0078, 1e-6, 1.0], "The error that is allowed in any case.");
static H_INIT: Setting<f64> = number("h_init", "H init", [0.05, 1e-3, 1.0], "The first step's length in log sigma.");
static PCOEFF: Setting<f64> =
    number("pcoeff", "Pcoeff", [0.0, 0.0, 1.0], "What the error's change counts for the next step's length.");
static ICOEFF: Setting<f64> =
    number("icoeff", "Icoeff", [1.0, 0.1, 1.0], "What the error counts for the next step's length.");
static DCOEFF: Setting<f64> = number(
    "dcoeff",
    "Dcoeff",
    [0.0, 0.0, 1.0],
    "What the change of the error's change counts for the next step's length.",
);
static SAFETY: Setting<f64> = number(
    "accept_safety",
    "Accept safety",
    [0.81, 0.1, 0.99],
    "A step is taken if the next may be this share as long.",
);

static NUMBERS: [&Setting<f64>; 7] = [&RTOL, &ATOL, &H_INIT, &PCOEFF, &ICOEFF, &DCOEFF, &SAFETY];

fn params() -> impl Iterator<Item = Param> {
    iter::once(ORDER.param()).chain(NUMBERS.map(Setting::param))
}

#[derive(Clone)]
struct DpmAdaptive {
    ancestral: Ancestral,
    order: usize,
    rtol: f64,
    atol: f64,
    h_init: f64,
    /// What the last three errors count.
    powers: [f64; 3],
    accept_safety: f64,
}

impl Stepper for DpmAdaptive {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let [pictures, ..] = x.0.dims();
        let ends = [at.sigma(), at.sigma_next()];
        let each = (0..pictures).map(|picture| {
            let mut of_picture = |like: &Latent| noise.of_picture(picture, like);
            self.whole(Latent(x.0.clone().narrow(0, picture, 1)), ends, model, &mut of_picture)
        });
        Ok(Latent(Tensor::cat(each.collect::<Result<Vec<_>, _>>()?, 0)))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

impl DpmAdaptive {
    /// One picture's whole way, in as many steps as it takes.
    fn whole(
        &self,
        mut x: Latent,
        [first, last]: [f32; 2],
        model: &mut dyn Denoiser,
        noise: &mut dyn FnMut(&Latent) -> Latent,
    ) -> Result<Tensor<4>, Error> {
        const NEAR: f64 = 1e-5; // k-diffusion dpm_solver_adaptive
        const LEAST: f64 = 1e-8; // k-diffusion PIDStepSizeController: eps
        let end = -f64::from(last).ln();
        let mut h = self.h_init;
        let (mut t, mut before) = (-f64::from(first).ln(), x.0.clone());
        let mut errors: Option<[f64; 3]> = None;
        let mut tries = 0..MOST_CALLS / self.order;
        while t < end - NEAR {
            if tries.next().is_none() {
                return Err(Error::TooManyCalls { sampler: "dpm_adaptive".to_owned(), max: MOST_CALLS });
            }
            let (sigma, next) = ((-t).exp() as f32, (-(t + h).min(end)).exp() as f32);
            let down = self.ancestral.above(last, [sigma, next]);
            let mut slopes = Slopes::of(&x, sigma, model)?;
            let (low, high) = if self.order == 2 {
                (first_order(&x, &slopes, down.sigma), second_order(&x, &mut slopes, down.sigma, 0.5, model)?)
            } else {
                let low = second_order(&x, &mut slopes, down.sigma, 1.0 / 3.0, model)?;
                (low, third_order(&x, &mut slopes, down.sigma, model)?)
            };
            let error = self.error([&low, &high, &before]);
            let error = error.map_err(|source| Error::Model { sigma, source: source.into() })?;
            let inverse = 1.0 / (error + LEAST);
            if !inverse.is_finite() {
                return Err(Error::NotFinite { sigma });
            }
            let [_, one, two] = errors.unwrap_or([inverse; 3]);
            let [p, q, r] = self.powers;
            let factor = inverse.powf(p) * one.powf(q) * two.powf(r);
            let factor = 1.0 + (factor - 1.0).atan();
            let accepted = factor >= self.accept_safety;
            errors = Some(if accepted { [inverse, inverse, one] } else { [inverse, one, two] });
            if accepted {
                t = (t + h).min(end);
                let drawn = (down.renoise > 0.0).then(|| noise(&x).0 * down.renoise);
                (before, x) = (low, Latent(drawn.map_or(high.clone(), |drawn| high + drawn)));
            }
            h *= factor;
        }
        Ok(x.0)
    }

    /// The root of the mean square of what two orders, low and high, differ by, in units of what is allowed.
    fn error(&self, latents: [&Tensor<4>; 3]) -> Result<f64, core_tensor::Error> {
        let [low, high, before] = latents.map(on_host);
        let (low, high, before) = (low?, high?, before?);
        let squares = low.iter().zip(&high).zip(&before).map(|((&low, &high), &before)| {
            let allowed = self.atol.max(self.rtol * f64::from(low.abs().max(before.abs())));
            (f64::from(low - high) / allowed).powi(2)
        });
        Ok((squares.sum::<f64>() / low.len() as f64).sqrt())
    }
}
