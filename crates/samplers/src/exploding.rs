//! Samplers made for variance-exploding noise, on a rectified flow.
//!
//! `x / (1 - sigma)` of a flow is `data + u · noise` with `u = sigma / (1 - sigma)`: a latent on variance-exploding noise. ComfyUI's
//! stochastic samplers, written with half the log signal-to-noise ratio, are the same equations (comfy/k_diffusion/sampling.py,
//! v0.3.64, `sigma_to_half_log_snr`).

use core_tensor::Latent;

use crate::{Denoised, Denoiser, Error, Noise, Process, SigmaSpace, Start, Step, Stepper};

/// Pure noise has no signal-to-noise ratio; a flow's first level is taken for the one at this time (ComfyUI
/// `offset_first_sigma_for_snr`: percent_offset).
const BEFORE_FIRST: f64 = 1.0 - 1e-4;

/// A sampler for variance-exploding noise as one for the model of `start`.
pub(crate) fn exploding(start: &Start, inner: impl Stepper + Clone + 'static) -> Box<dyn Stepper> {
    match start.space.process() {
        Process::Diffusion => Box::new(inner),
        Process::Flow => Box::new(OnFlow { space: start.space, inner }),
    }
}

#[derive(Clone)]
struct OnFlow<S> {
    space: SigmaSpace,
    inner: S,
}

impl<S: Stepper + Clone + 'static> Stepper for OnFlow<S> {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let top = self.space.sigma(BEFORE_FIRST);
        let levels: Vec<f64> = at.sigmas().iter().map(|&sigma| f64::from(sigma).min(top)).collect();
        let exploding: Vec<f32> = levels.iter().map(|sigma| (sigma / (1.0 - sigma)) as f32).collect();
        let signal = |index: usize| 1.0 - levels[index];
        let Some(inner_at) = Step::of(&exploding, at.index()) else { return Ok(x) };
        let flow = Flow { sigmas: at.sigmas(), exploding: &exploding };
        let y = Latent(x.0 * (1.0 / signal(at.index())) as f32);
        let mut model = OfFlow(model);
        let mut noise = NoiseOfFlow { inner: noise, flow };
        let next = self.inner.step(inner_at, y, &mut model, &mut noise)?;
        Ok(Latent(next.0 * signal(at.index() + 1) as f32))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// A run's levels in both forms.
#[derive(Clone, Copy)]
struct Flow<'a> {
    sigmas: &'a [f32],
    exploding: &'a [f32],
}

impl Flow<'_> {
    /// The flow's level, the run's own to the bit where it is one of them.
    fn sigma(self, exploding: f32) -> f32 {
        match self.exploding.iter().position(|&level| level == exploding) {
            Some(index) => self.sigmas[index],
            None => (f64::from(exploding) / (1.0 + f64::from(exploding))) as f32,
        }
    }
}

struct OfFlow<'a>(&'a mut dyn Denoiser);

impl Denoiser for OfFlow<'_> {
    fn denoise(&mut self, y: &Latent, exploding: f32) -> Result<Denoised, Error> {
        let signal = 1.0 / (1.0 + f64::from(exploding));
        let x = Latent(y.0.clone() * signal as f32);
        self.0.denoise(&x, (f64::from(exploding) * signal) as f32)
    }
}

struct NoiseOfFlow<'a> {
    inner: &'a mut dyn Noise,
    flow: Flow<'a>,
}

impl Noise for NoiseOfFlow<'_> {
    fn next(&mut self, like: &Latent) -> Latent {
        self.inner.next(like)
    }

    fn of_picture(&mut self, picture: usize, like: &Latent) -> Latent {
        self.inner.of_picture(picture, like)
    }

    fn between(&mut self, like: &Latent, sigma: f32, sigma_next: f32) -> Latent {
        self.inner.between(like, self.flow.sigma(sigma), self.flow.sigma(sigma_next))
    }
}
