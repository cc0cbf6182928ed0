//! What stands around the call of a model: guidance, the check for NaN, the watch for previews, and what a program adds.

mod count;
mod finite;
mod guidance;
mod masked;
mod only;
mod pass;
mod watch;

use std::sync::Arc;

use samplers::{Denoiser, Prediction, SigmaSpace, Sigmas};

use crate::{Again, Clock, Encoded, Error, Holds, Hooks, Moment, Predictor};

pub(crate) use count::Count;
pub(crate) use finite::Finite;
pub use guidance::Guidance;
pub(crate) use masked::{Mask, mixed};
pub(crate) use only::only_where;
pub(crate) use pass::exact_steps;
pub use pass::{Applied, Origin, Pass};
pub(crate) use watch::Watch;

/// Something around a model's calls, and inside its networks, for the length of a pass; either may be left out.
pub trait Wrap: Send + Sync {
    /// Puts itself around a denoiser: what a sampler calls then goes through it.
    ///
    /// What it returns lives for one pass. What it remembers of earlier calls it keeps in the wrap, see [`Wrap::fork`]; what it keeps to
    /// itself begins anew after [`Run::resume`](crate::Run::resume).
    ///
    /// # Errors
    /// What it can't do of the pass.
    fn around(&self, inner: Box<dyn Denoiser>, _at: &Around) -> Result<Box<dyn Denoiser>, Error> {
        Ok(inner)
    }

    /// Where it stands.
    fn place(&self) -> Place {
        Place::Outside
    }

    /// Whether a call needs the answer to the negative prompt; where something around the model says that it does not, the model is not
    /// asked, and [`Denoised::negative`](samplers::Denoised::negative) is empty. Where a sampler or several prompts at once need it all the
    /// same, it is there, but guidance is not shown it.
    fn wants_negative(&self, _pass: &Pass, _at: &Moment) -> bool {
        true
    }

    /// The encoded prompts of the pass, each of the positive ones before the negative ones, as they go on; there must be as many.
    ///
    /// # Errors
    /// What it can't do of them.
    fn conditioning(&self, prompts: Vec<Arc<Encoded>>) -> Result<Vec<Arc<Encoded>>, Error> {
        Ok(prompts)
    }

    /// Puts itself around the network itself, which answers to one prompt at a time: whoever asks the model again comes through it too.
    fn predicting(&self, inner: Box<dyn Predictor>) -> Box<dyn Predictor> {
        inner
    }

    /// Another wrap that remembers the same and shares nothing with this one that either of them changes: what takes its place in a pass
    /// that begins, in a snapshot, and in a run that goes on from one. `None`, where nothing is said, for what remembers no call.
    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        None
    }

    /// What it does inside the networks, if anything.
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        None
    }

    /// What it holds of memory, which plans count; a wrap that keeps tensors says how many.
    fn holds(&self) -> Holds {
        Holds::default()
    }
}

/// Where a [`Wrap`] stands, from the model outwards; of several in one place the last is the outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Around the model's own answers: [`Denoised::latent`](samplers::Denoised) is that to the positive prompt.
    Inside,
    /// In the place of [`Guidance`], which makes one answer of both.
    Guidance,
    /// Around the guided answer.
    Outside,
}

/// The pass that something is wrapped around.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// What is drawn.
    pub pass: &'a Pass,
    /// The model's noise levels.
    pub space: SigmaSpace,
    /// The levels of the steps.
    pub sigmas: &'a Sigmas,
    /// The shape of the latent: batch, channels, height, width.
    pub shape: [usize; 4],
    /// Where the pass stands.
    pub clock: &'a Clock,
    /// What the network's output is, where the model tells.
    pub predicts: Option<Prediction>,
    /// The model, for what asks a second time.
    pub again: &'a Again,
}
