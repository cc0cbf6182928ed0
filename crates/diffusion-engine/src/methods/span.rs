//! A part of a pass, by the model's time.

use std::ops::RangeInclusive;

use samplers::SigmaSpace;

use super::Settings;
use crate::{Call, Key, Memory};

/// A part of a pass in which a method counts, from one share of the model's time to another, as ComfyUI has its percents: from noise to data,
/// whatever the steps are. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    shares: [f32; 2],
    /// The noise levels, once they are known.
    levels: Memory<Option<RangeInclusive<f32>>>,
}

impl Span {
    /// Between what two keys are set to; everything where they are not set.
    pub(super) fn of(settings: &Settings, [from, to]: [&Key; 2]) -> Self {
        Self::between(settings.number(from).unwrap_or(0.0), settings.number(to).unwrap_or(1.0))
    }

    /// Between two shares.
    pub(super) fn between(from: f32, to: f32) -> Self {
        Self { shares: [from, to], levels: Memory::default() }
    }

    /// The pass begins, with a model of these levels (ComfyUI comfy/model_sampling.py `percent_to_sigma`, v0.3.64).
    pub(super) fn is_in(&self, space: SigmaSpace) {
        let level = |share: f32| match share {
            share if share <= 0.0 => f32::INFINITY,
            share if share >= 1.0 => 0.0,
            share => space.after(f64::from(share)) as f32,
        };
        let [from, to] = self.shares.map(level);
        *self.levels.hold() = Some(to..=from);
    }

    /// Whether a noise level is in it.
    pub(super) fn holds(&self, sigma: f32) -> bool {
        self.levels.hold().as_ref().is_some_and(|levels| levels.contains(&sigma))
    }

    /// Whether a call is in it.
    pub(super) fn counts(&self, call: Option<Call>) -> bool {
        call.is_some_and(|call| self.holds(call.sigma))
    }

    /// Another one of the same.
    pub(super) fn fork(&self) -> Self {
        Self { levels: self.levels.fork(), ..*self }
    }
}
