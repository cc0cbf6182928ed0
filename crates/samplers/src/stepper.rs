use core_tensor::Latent;

use crate::Error;

/// Takes a latent from one sigma to the next; lives for one run and may remember earlier steps.
pub trait Stepper: Send {
    /// One step from `at.sigma()` to `at.sigma_next()`.
    ///
    /// # Errors
    /// Those of the model, or [`Error::NoNegative`] from a sampler that needs what this model does not tell.
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error>;

    /// Another stepper that remembers the same: from the same latent and noise it goes on to the same bits.
    ///
    /// It shares nothing that either of them changes.
    fn fork(&self) -> Box<dyn Stepper>;
}

/// Where a run stands; multistep samplers look at its other noise levels too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    index: usize,
    sigmas: &'a [f32],
}

impl<'a> Step<'a> {
    /// The step of that index, from 0; `None` past the last, which ends in the last of `sigmas`.
    pub fn of(sigmas: &'a [f32], index: usize) -> Option<Self> {
        (index < sigmas.len().saturating_sub(1)).then_some(Self { index, sigmas })
    }

    /// From 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Every noise level of the run, one more than there are steps.
    pub fn sigmas(&self) -> &'a [f32] {
        self.sigmas
    }

    /// The noise level of the latent that goes in.
    pub fn sigma(&self) -> f32 {
        self.sigmas[self.index]
    }

    /// The noise level of the latent that comes out; 0 in the last step.
    pub fn sigma_next(&self) -> f32 {
        self.sigmas[self.index + 1]
    }
}

/// Predicts the clean latent from a noisy one; the only thing that a sampler knows of a model.
pub trait Denoiser: Send {
    /// Told by the run before each of its steps; a wrapper passes it on to what it wraps.
    fn begin(&mut self, _step: &Step) {}

    /// The clean latent that the model sees in `x` at noise level `sigma`, in the same shape.
    ///
    /// # Errors
    /// The model's own as [`Error::Model`], [`Error::NotFinite`], or [`Error::Cancelled`] once it was told to stop.
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error>;
}

/// What a model sees in a noisy latent.
#[derive(Clone, Debug)]
pub struct Denoised {
    /// The clean latent, by everything that guides the model.
    pub latent: Latent,
    /// The model's answer to the negative prompt, where it was asked.
    pub negative: Option<Latent>,
}

impl Denoised {
    /// Both latents, for a sampler that can't do without the negative prompt's.
    ///
    /// # Errors
    /// [`Error::NoNegative`] where the model was not asked.
    pub fn both(self) -> Result<(Latent, Latent), Error> {
        Ok((self.latent, self.negative.ok_or(Error::NoNegative)?))
    }
}

impl From<Latent> for Denoised {
    /// Without an answer to the negative prompt.
    fn from(latent: Latent) -> Self {
        Self { latent, negative: None }
    }
}

/// The noise that stochastic samplers draw.
pub trait Noise: Send {
    /// The next standard normal values in the shape of `like`.
    fn next(&mut self, like: &Latent) -> Latent;

    /// The next ones of one picture of a batch alone, counted from 0; `like` is that picture.
    ///
    /// Unless it is written otherwise, all pictures share one stream.
    fn of_picture(&mut self, _picture: usize, like: &Latent) -> Latent {
        self.next(like)
    }

    /// Standard normal values for the step from `sigma` to `sigma_next`, in the shape of `like`: what one Brownian path for the
    /// whole run gains over it, divided by the root of its length.
    fn between(&mut self, like: &Latent, sigma: f32, sigma_next: f32) -> Latent;
}
