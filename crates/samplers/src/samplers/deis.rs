//! DEIS: the slope's polynomial through the last steps, integrated against the noise that it moves.
//!
//! References: Zhang and Chen 2022 (tAB and rhoAB); for `tab` Forge and ComfyUI `sample_deis` (k_diffusion/deis.py, dfdcbab; v0.3.64),
//! whose time is that of a variance-preserving process from sigma 0.002 to 80 and whose integral is a sum over 10,000
//! rectangles; for `logrho` diffusers `DEISMultistepScheduler` 0.42, whose polynomials are in log sigma.

use core_tensor::Latent;

use super::euler::slope;
use crate::{
    Denoiser, Error, Noise, Sampler, Setting, Step, Stepper,
    interpolation::{basis, exponential_weights},
    options::whole,
    past_slopes::PastSlopes,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("deis", "DEIS", |start| {
        let mode = [tab, logrho][start.get(&mode())]; Ok(Box::new(Deis { mode, slopes: PastSlopes::new(start.get(&ORDER)) })) })
        .aliases(["DEISMultistep", "DEISMultistepScheduler"])
        .about("The polynomial through the last slopes, integrated against the noise that it moves. diffusers' polynomials are those of \
            `deis_mode` `logrho`.")
        .params([ORDER.param(), mode().param()])
}

/// ComfyUI sample_deis: max_order.
static ORDER: Setting<usize> = whole("order", "Order", [3, 1, 4], "How many slopes count.");
fn mode() -> Setting<usize> {
    Setting::choice(
        "deis_mode",
        "DEIS mode",
        ["tab", "logrho"],
        "What the polynomials are in: the time of a variance-preserving process, or log sigma.",
    )
}

/// The weights of the slopes at some levels, the newest first, in the step from that to another.
type Mode = fn(levels: &[f64], end: f64) -> Vec<f64>;

#[derive(Clone)]
struct Deis {
    mode: Mode,
    slopes: PastSlopes,
}

impl Stepper for Deis {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        self.slopes.push(slope(x.0.clone(), denoised.0, at.sigma()));
        let end = f64::from(at.sigma_next());
        let weights = match self.slopes.len() {
            1 => vec![end - f64::from(at.sigma())],
            _ => (self.mode)(&self.slopes.levels(at), end),
        };
        Ok(self.slopes.moved(x, weights))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

fn logrho(levels: &[f64], end: f64) -> Vec<f64> {
    let nodes: Vec<f64> = levels.iter().map(|level| level.ln()).collect();
    exponential_weights(&nodes, levels[0].ln(), end.ln(), 1.0).into_iter().map(|weight| weight * end).collect()
}

fn tab(levels: &[f64], end: f64) -> Vec<f64> {
    const RECTANGLES: usize = 10_000;
    let vp = VarianceExploded::over(0.002, 80.0, 1e-3);
    let nodes: Vec<f64> = levels.iter().map(|&level| vp.time(level)).collect();
    let (first, last) = (nodes[0], vp.time(end));
    let width = (last - first) / RECTANGLES as f64;
    // As many points as rectangles, but from one end to the other: the sum is that much too short.
    let at = |i: usize| first + (last - first) * i as f64 / (RECTANGLES - 1) as f64;
    let mut weights = vec![0.0; nodes.len()];
    for t in (0..RECTANGLES).map(at) {
        let change = vp.change(t) * width;
        for (j, weight) in weights.iter_mut().enumerate() {
            *weight += change * basis(&nodes, j, t);
        }
    }
    weights
}

/// A variance-preserving process with a noise rate that rises evenly, in units of the data: sigma as a function of its time.
struct VarianceExploded {
    rate: f64,
    first_rate: f64,
}

impl VarianceExploded {
    /// That whose time `epsilon` has the level `min`, and whose time 1 has `max`.
    fn over(min: f64, max: f64, epsilon: f64) -> Self {
        let log = |sigma: f64| (sigma.powi(2) + 1.0).ln();
        let rate = 2.0 * (log(min) / epsilon - log(max)) / (epsilon - 1.0);
        Self { rate, first_rate: log(max) - 0.5 * rate }
    }

    fn time(&self, sigma: f64) -> f64 {
        ((self.first_rate.powi(2) + 2.0 * self.rate * (sigma.powi(2) + 1.0).ln()).sqrt() - self.first_rate) / self.rate
    }

    /// How fast sigma changes.
    fn change(&self, t: f64) -> f64 {
        let kept = (-0.5 * t.powi(2) * self.rate - t * self.first_rate).exp();
        0.5 * (t * self.rate + self.first_rate) / (kept * (1.0 - kept)).sqrt()
    }
}
