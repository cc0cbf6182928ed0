//! DPM-Solver++(2S) with noise in both of its halves.
//!
//! Reference: k-diffusion `sample_dpmpp_sde`, commit 4601bf0 (Lu et al. 2022b, algorithm 1, made stochastic).

use core_tensor::Latent;

use super::euler::towards;
use crate::{
    Calls, Denoiser, Error, Noise, Process, Sampler, Setting, Start, Step, Stepper,
    ancestral::Down,
    exploding::exploding,
    options::{ETA, S_NOISE, number},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_sde", "DPM++ SDE", |start| {
        let [eta, s_noise, r] = [&ETA, &S_NOISE, &R].map(|param| start.get(param));
        Ok(exploding(start, DpmppSde { eta: eta as f32, s_noise: s_noise as f32, r, path: path(start) }))
    })
    .aliases(["k_dpmpp_sde", "dpmpp_sde_gpu", "DPM++SDE", "DPMSDE", "DPMSolverSDEScheduler"])
    .about("The denoised latent of a step is taken at a place within it, with noise in both halves.")
    .calls(Calls::Each(2))
    .stochastic()
    .along_a_path()
    .params([ETA.param(), S_NOISE.param(), R.param()])
    .automatic(schedules::karras::schedule())
}

static R: Setting<f64> =
    number("r", "R", [0.5, 0.01, 1.0], "Where in the step its middle lies, on the scale of log sigma.");

#[derive(Clone)]
struct DpmppSde {
    eta: f32,
    s_noise: f32,
    r: f64,
    path: fn(f32) -> f32,
}

/// Where on its path the noise of a level is drawn: k-diffusion rounds levels on the way to their logarithms and back, and a path is rough
/// enough to show it.
fn path(start: &Start) -> fn(f32) -> f32 {
    match start.space.process() {
        Process::Diffusion => |sigma| sigma.ln().exp(),
        Process::Flow => |sigma| sigma,
    }
}

impl DpmppSde {
    /// From one level to another, with noise.
    fn part(&self, x: &Latent, denoised: Latent, [sigma, end]: [f32; 2], noise: &mut dyn Noise) -> Latent {
        let down = Down::diffusion(sigma, end, self.eta);
        let lower = towards(x.0.clone(), denoised.0, down.sigma / sigma);
        let strength = down.renoise * self.s_noise;
        Latent(if strength == 0.0 { lower } else { lower + noise.between(x, sigma, end).0 * strength })
    }
}

impl Stepper for DpmppSde {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let denoised = model.denoise(&x, at.sigma())?.latent;
        if at.sigma_next() == 0.0 {
            return Ok(denoised);
        }
        let [now, end] = [at.sigma(), at.sigma_next()].map(f32::ln);
        let middle = (now + (end - now) * self.r as f32).exp();
        let [first, last] = [at.sigma(), at.sigma_next()].map(self.path);
        let half_way = self.part(&x, denoised.clone(), [first, middle], noise);
        let there = model.denoise(&half_way, middle)?.latent;
        let weight = (1.0 / (2.0 * self.r)) as f32;
        let mean = Latent(denoised.0 * (1.0 - weight) + there.0 * weight);
        Ok(self.part(&x, mean, [first, last], noise))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
