//! The steps of DPM-Solver, which `dpm_fast` and `dpm_adaptive` are made of.
//!
//! References: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), algorithms 1 and 2; k-diffusion `DPMSolver`, commit 4601bf0.

use core_tensor::{Latent, Tensor};

use super::euler::slope;
use crate::{Denoiser, Error};

/// The slope at the step's start, and one that was taken within it.
pub(super) struct Slopes {
    sigma: f64,
    here: Tensor<4>,
    within: Option<Tensor<4>>,
}

impl Slopes {
    pub(super) fn of(x: &Latent, sigma: f32, model: &mut dyn Denoiser) -> Result<Self, Error> {
        let denoised = model.denoise(x, sigma)?.latent;
        Ok(Self { sigma: sigma.into(), here: slope(x.0.clone(), denoised.0, sigma), within: None })
    }

    /// The level at a share of the step to `end`.
    fn level(&self, end: f32, share: f64) -> f64 {
        self.sigma * (f64::from(end) / self.sigma).powf(share)
    }

    /// How far the slope there is from that at the start.
    fn bend(&mut self, x: &Latent, end: f32, share: f64, model: &mut dyn Denoiser) -> Result<Tensor<4>, Error> {
        if self.within.is_none() {
            let level = self.level(end, share);
            let there = Latent(x.0.clone() + self.here.clone() * (level - self.sigma) as f32);
            let denoised = model.denoise(&there, level as f32)?.latent;
            self.within = Some(slope(there.0, denoised.0, level as f32));
        }
        let within = self.within.clone().unwrap_or_else(|| self.here.clone());
        Ok(within - self.here.clone())
    }
}

pub(super) fn first_order(x: &Latent, slopes: &Slopes, end: f32) -> Tensor<4> {
    x.0.clone() + slopes.here.clone() * (f64::from(end) - slopes.sigma) as f32
}

/// `share` is where in the step, on the scale of log sigma, the second slope is taken.
pub(super) fn second_order(
    x: &Latent,
    slopes: &mut Slopes,
    end: f32,
    share: f64,
    model: &mut dyn Denoiser,
) -> Result<Tensor<4>, Error> {
    let bend = slopes.bend(x, end, share, model)?;
    let length = f64::from(end) - slopes.sigma;
    Ok(first_order(x, slopes, end) + bend * (length / (2.0 * share)) as f32)
}

/// Slopes are taken at a third of the step and at two thirds.
pub(super) fn third_order(
    x: &Latent,
    slopes: &mut Slopes,
    end: f32,
    model: &mut dyn Denoiser,
) -> Result<Tensor<4>, Error> {
    let [first, second] = [1.0 / 3.0, 2.0 / 3.0];
    let bend = slopes.bend(x, end, first, model)?;
    let h = (slopes.sigma / f64::from(end)).ln();
    // What a straight change of the slope adds by the share of the step.
    let bent = |share: f64, level: f64| level * ((share * h).exp_m1() / (share * h) - 1.0);
    let level = slopes.level(end, second);
    let there = x.0.clone() + slopes.here.clone() * (level - slopes.sigma) as f32
        - bend * (second / first * bent(second, level)) as f32;
    let denoised = model.denoise(&Latent(there.clone()), level as f32)?.latent;
    let bend = slope(there, denoised.0, level as f32) - slopes.here.clone();
    Ok(first_order(x, slopes, end) - bend * (bent(1.0, end.into()) / second) as f32)
}
