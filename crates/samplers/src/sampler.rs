use core_tensor::Latent;

use crate::{Error, Schedule};

/// Everything that the command line, the docs, the infotext and the tests know about a way of taking steps.
#[derive(Debug)]
pub struct Sampler {
    /// The name in configs and flags.
    pub id: &'static str,
    /// The name that people and infotexts know it by.
    pub label: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// Model calls in each step.
    pub evals_per_step: u8,
    /// Whether it draws noise after the start.
    pub stochastic: bool,
    /// What the schedule `automatic` stands for with it on Stable Diffusion's noise levels: A1111's choice (1.10,
    /// modules/sd_samplers_kdiffusion.py `scheduler`).
    pub automatic: &'static Schedule,
    /// Begins a run.
    pub start: fn(Process) -> Box<dyn Stepper>,
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// How the data turn into noise as sigma grows; the ancestral and stochastic samplers need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// `x = data + sigma · noise`: Stable Diffusion 1.x, 2.x and XL, in k-diffusion's scaling.
    Diffusion,
    /// `x = (1 - sigma) · data + sigma · noise`: rectified flow, as in Flux and Stable Diffusion 3.
    Flow,
}

/// Takes a latent from one sigma to the next; lives for one run and may remember earlier steps.
pub trait Stepper: Send {
    /// One step from `at.sigma()` to `at.sigma_next()`.
    ///
    /// # Errors
    /// Those of the model.
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error>;
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
pub trait Denoiser {
    /// The clean latent that the model sees in `x` at noise level `sigma`, in the same shape.
    ///
    /// # Errors
    /// The model's own, or [`Error::NotFinite`].
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error>;
}

/// The noise that stochastic samplers draw.
pub trait Noise {
    /// The next standard normal values in the shape of `like`.
    fn next(&mut self, like: &Latent) -> Latent;
}
