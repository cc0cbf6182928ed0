//! Adaptive projected guidance: the step away from the negative answer without its part along the positive one, which is what saturates
//! colours, bounded and with (negative) momentum (Sadat et al. 2024, Eliminating Oversaturation and Artifacts of High Guidance Scales in
//! Diffusion Models, algorithm 1).

use std::sync::Arc;

use core_tensor::{Latent, Tensor};
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Method, SHARE, SWITCH, Settings, dot, each, key};
use crate::{Around, Clock, Holds, Key, Kind, Memory, Moment, Pass, PerStep, Place, Wrap};

pub(super) const METHOD: Method = Method { id: "apg", keys: &[APG, ETA, NORM, MOMENTUM], networks: &[], wraps };

const APG: Key = key("apg", SWITCH, "off", "\"on\"").about("Adaptive projected guidance in the place of plain guidance")
    .docs("`on`: guidance by `cfg` without what it adds along the picture itself, so that a high `cfg` doesn't burn colours")
    .flag("apg")
    .label("APG");

const ETA: Key = key("apg_eta", SHARE, "0", "0.0")
    .about("Share of what lies along the picture that is kept")
    .docs("the share of what lies along the picture that is kept; 1 is plain guidance")
    .label("APG eta");

const NORM: Key = key("apg_norm", Kind::Number { min: 0.0, max: 1000.0 }, "15", "15.0")
    .about("Most that one call may move the picture, 0 for any")
    .docs("the norm that the step away from the negative answer is cut to; 0 for any")
    .label("APG norm");

const MOMENTUM: Key = key("apg_momentum", Kind::Number { min: -1.0, max: 1.0 }, "-0.5", "-0.5")
    .about("Share of the calls before that is added, below 0 taken away")
    .docs("the share of the calls before that is added to each step; below 0 it is taken away")
    .label("APG momentum");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    // Tables 1 and 9 of the paper: what Stable Diffusion XL is guided with.
    vec![Arc::new(Apg {
        eta: settings.number(&ETA).unwrap_or(0.0),
        norm: settings.number(&NORM).unwrap_or(15.0),
        momentum: settings.number(&MOMENTUM).unwrap_or(-0.5),
        average: Memory::default(),
    })]
}

#[derive(Clone)]
struct Apg {
    eta: f32,
    norm: f32,
    momentum: f32,
    /// The sum of the steps of all calls so far, the earlier the less.
    average: Memory<Option<Latent>>,
}

impl Wrap for Apg {
    fn place(&self) -> Place {
        Place::Guidance
    }

    fn wants_negative(&self, pass: &Pass, at: &Moment) -> bool {
        pass.cfg.at(at.step, at.steps) > 1.0
    }

    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self { average: self.average.fork(), ..*self }))
    }

    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Projected { inner, apg: self.clone(), cfg: at.pass.cfg.clone(), clock: at.clock.clone() }))
    }

    fn holds(&self) -> Holds {
        // The average, a step and its two parts.
        Holds { latents: 4, ..Holds::default() }
    }
}

struct Projected {
    inner: Box<dyn Denoiser>,
    apg: Apg,
    cfg: PerStep,
    clock: Clock,
}

impl Denoiser for Projected {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent: positive, negative } = self.inner.denoise(x, sigma)?;
        let Some(negative) = negative else { return Ok(Denoised { latent: positive, negative: None }) };
        let at = self.clock.at(sigma);
        let (cfg, Apg { eta, norm, momentum, .. }) = (self.cfg.at(at.step, at.steps), self.apg.clone());
        let mut average = self.apg.average.hold();
        let step = positive.0.clone() - negative.0.clone();
        let step = Latent(match average.take() {
            Some(average) => step + average.0 * momentum,
            None => step,
        });
        *average = Some(step.clone());
        let of_picture = |[step, positive]: [Tensor<4>; 2]| {
            let length = dot(step.clone(), step.clone()).sqrt().clamp_min(f32::MIN_POSITIVE);
            let step = if norm > 0.0 { step * (length.recip() * norm).clamp_max(1.0) } else { step };
            let along = dot(step.clone(), positive.clone())
                / dot(positive.clone(), positive.clone()).clamp_min(f32::MIN_POSITIVE);
            let parallel = positive.clone() * along;
            Ok(positive + (step - parallel.clone() + parallel * eta) * (cfg - 1.0))
        };
        Ok(Denoised { latent: each([&step, &positive], of_picture)?, negative: Some(negative) })
    }
}
