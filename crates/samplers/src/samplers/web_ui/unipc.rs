//! UniPC over even steps of time, down to the table's first level.
//!
//! References: A1111 1.10 and Forge dfdcbab, `unipc` (modules/sd_samplers_timesteps_impl.py) and modules/models/diffusion/uni_pc/uni_pc.py:
//! levels between two of the table lie on a line through the logarithms of their signals. Forge's `CFGDenoiser` shows the model the nearest
//! level of the table instead (modules/sd_samplers_cfg_denoiser.py, `classic_ddim_eps_estimation`). Elsewhere fewer steps than the order are
//! refused.

use core_tensor::Latent;

use super::{
    WebUi, is_part,
    timesteps::{UnitEnd, strided},
};
use crate::{
    Denoised, Denoiser, Error, Noise, Sampler, SigmaSpace, Start, Step, Stepper,
    samplers::{
        unipc as plain,
        unipc::{UniPc, Variant},
        unipc_bh2 as plain_bh2,
    },
};

pub(super) fn sampler(ui: WebUi, variant: Variant) -> Sampler {
    let sampler = match variant {
        Variant::Bh1 => plain::sampler(),
        Variant::Bh2 => plain_bh2::sampler(),
    };
    sampler
        .levels(move |start, given| {
            let all = levels(start, ui);
            let first = if is_part(start, given) { all.len().saturating_sub(given.len()) } else { 0 };
            Ok(all[first..].iter().map(|level| level.own).collect())
        })
        .noise_scale(|_, own| own[0].hypot(1.0))
        .begun_by(move |start| {
            let inner = UniPc::of(start, variant);
            Ok(Box::new(UnitEnd(Shown { inner, levels: levels(start, ui) })))
        })
}

/// A level of the run, and the one that the model is shown.
#[derive(Clone, Copy, Debug)]
struct Level {
    own: f32,
    shown: f32,
}

fn levels(start: &Start, ui: WebUi) -> Vec<Level> {
    let (steps, _) = strided(start.steps);
    let last = start.space.levels() - 1;
    let of = |i: usize| {
        let time = last as f64 * (steps - i) as f64 / steps as f64;
        let own = between(&start.space, time) as f32;
        let shown = match ui {
            WebUi::A1111 => own,
            WebUi::Forge => start.space.level((rounded_time(i, steps) as usize).min(last)) as f32,
        };
        Level { own, shown }
    };
    (0..=steps).map(of).collect()
}

/// The level at a place in the table, from 0.
fn between(space: &SigmaSpace, time: f64) -> f64 {
    let below = (time.floor() as usize).min(space.levels() - 2);
    let [low, high] = [below, below + 1].map(|i| -space.level(i).powi(2).ln_1p());
    (-(low + (high - low) * (time - below as f64))).exp_m1().sqrt()
}

/// The place in the table that is nearest to a step's time. Halfway between two it is what rounding to `f32` makes of it, so that it is
/// computed as there: torch's `linspace(1, 0.001, steps + 1)`, less 0.001, times 1000.
fn rounded_time(i: usize, steps: usize) -> f32 {
    let (first, last) = (1.0f32, 1e-3f32);
    let step = (last - first) / steps as f32;
    let time = if i < steps.div_ceil(2) { first + step * i as f32 } else { last - step * (steps - i) as f32 };
    ((time - 1e-3) * 1000.0).round_ties_even()
}

#[derive(Clone)]
struct Shown {
    inner: UniPc,
    levels: Vec<Level>,
}

impl Stepper for Shown {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let shown = self.levels.iter().find(|level| level.own == at.sigma()).map_or(at.sigma(), |level| level.shown);
        self.inner.step(at, x, &mut OfShown { model, shown }, noise)
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// A model that is shown a latent as if it were at another level; the noise that it sees is taken for that at the latent's own.
struct OfShown<'a> {
    model: &'a mut dyn Denoiser,
    shown: f32,
}

impl Denoiser for OfShown<'_> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let shown = Latent(x.0.clone() * (self.shown.hypot(1.0) / sigma.hypot(1.0)));
        let Denoised { latent, negative } = self.model.denoise(&shown, self.shown)?;
        let ratio = sigma / self.shown;
        let seen = |Latent(denoised)| Latent(x.0.clone() - (shown.0.clone() - denoised) * ratio);
        Ok(Denoised { latent: seen(latent), negative: negative.map(seen) })
    }
}
