use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use samplers::Step;

/// Where a pass stands while a step is taken. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    step: AtomicUsize,
    steps: AtomicUsize,
    call: AtomicUsize,
}

/// A call of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The step, from 0.
    pub step: usize,
    /// Steps of the pass; 0 before the first.
    pub steps: usize,
    /// The sampler's call of the model, from 0 and on through all steps of the pass: a sampler may call more than once in a step.
    pub call: usize,
    /// The noise level.
    pub sigma: f32,
}

impl Clock {
    /// The call that is going on.
    pub fn at(&self, sigma: f32) -> Moment {
        let [steps, call] = [&self.0.steps, &self.0.call].map(|hand| hand.load(Relaxed));
        Moment { step: self.step(), steps, call, sigma }
    }

    /// The step, from 0.
    pub fn step(&self) -> usize {
        self.0.step.load(Relaxed)
    }

    /// A step begins: for who drives a denoiser without a run.
    pub fn begins(&self, step: &Step) {
        self.0.step.store(step.index(), Relaxed);
        self.0.steps.store(step.sigmas().len().saturating_sub(1), Relaxed);
    }

    /// A call of the sampler has ended.
    pub(crate) fn count(&self) {
        self.0.call.fetch_add(1, Relaxed);
    }

    /// Another clock that shows the same.
    pub(crate) fn fork(&self) -> Self {
        let Moment { step, steps, call, .. } = self.at(0.0);
        Self(Arc::new(Hands { step: step.into(), steps: steps.into(), call: call.into() }))
    }
}
