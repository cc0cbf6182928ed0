//! DDIM, DDIM with CFG++ and PLMS over evenly strided times: from noise of unit variance, and no further than the second level of the table.
//!
//! References: A1111 1.10 and Forge dfdcbab, `CompVisSampler.get_timesteps` (modules/sd_samplers_timesteps.py) and modules/
//! sd_samplers_timesteps_impl.py. Their latents have unit variance at every level; that of the last step stays as it is there.

use core_tensor::Latent;

use super::{WebUi, is_part};
use crate::{
    Denoiser, Error, Noise, Prediction, Sampler, Start, Step, Stepper,
    ancestral::Ancestral,
    options::ETA_0,
    samplers::{
        ddim as plain_ddim, ddim_cfgpp as plain_ddim_cfgpp, euler_ancestral::EulerAncestral,
        euler_ancestral_cfg_pp::EulerCfgPp, plms as plain_plms,
    },
};

pub(super) fn ddim() -> Sampler {
    on_timesteps(plain_ddim::sampler())
        .begun_by(|start| Ok(Box::new(UnitEnd(EulerAncestral { ancestral: Ancestral::of(start, &ETA_0) }))))
}

/// Forge counts all of the guidance (its `CFGDenoiser` does not know `cond_scale_miltiplier`), A1111 a 12.5th.
pub(super) fn ddim_cfgpp(ui: WebUi) -> Sampler {
    let guidance = match ui {
        WebUi::A1111 => plain_ddim_cfgpp::SHARE,
        WebUi::Forge => 1.0,
    };
    on_timesteps(plain_ddim_cfgpp::sampler())
        .begun_by(move |start| Ok(Box::new(UnitEnd(EulerCfgPp { ancestral: Ancestral::of(start, &ETA_0), guidance }))))
}

pub(super) fn plms() -> Sampler {
    on_timesteps(plain_plms::sampler()).begun_by(|_| Ok(Box::new(UnitEnd(plain_plms::Plms::default()))))
}

/// The same sampler over levels of its own.
fn on_timesteps(sampler: Sampler) -> Sampler {
    sampler.levels(|start, given| Ok(levels(start, given))).noise_scale(|_, own| own[0].hypot(1.0))
}

/// How many times there are, and how far they are from each other.
pub(super) fn strided(steps: usize) -> (usize, usize) {
    const TIMES: usize = 1000;
    let stride = (TIMES / steps).max(1);
    (TIMES.div_ceil(stride), stride)
}

fn levels(start: &Start, given: &[f32]) -> Vec<f32> {
    let last = start.space.levels() - 1;
    let (times, stride) = strided(start.steps);
    let mut picks: Vec<usize> = (0..times).map(|i| (1 + i * stride).min(last)).collect();
    // Elsewhere one time makes no step at all, and noise stays noise.
    if times == 1 {
        picks.push(last);
    }
    if is_part(start, given) {
        picks.truncate(given.len().max(2));
    }
    picks.into_iter().rev().map(|pick| start.space.level(pick) as f32).collect()
}

/// A sampler whose last latent is left in the model's units, of unit variance, where the level is not 0.
#[derive(Clone)]
pub(super) struct UnitEnd<S>(pub(super) S);

impl<S: Stepper + Clone + 'static> Stepper for UnitEnd<S> {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let next = self.0.step(at, x, model, noise)?;
        let is_last = at.index() + 2 == at.sigmas().len();
        Ok(if is_last { Latent(next.0 * Prediction::Epsilon.input(at.sigma_next())) } else { next })
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
