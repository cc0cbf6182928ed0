//! SA-Solver: a stochastic Adams method, predicting and correcting.
//!
//! References: Xue et al. 2023 (SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models, arXiv 2309.05019), equations
//! 14 to 18; ComfyUI `sample_sa_solver` (v0.3.64) for orders, for lowering them towards the end and for where noise is drawn.

use std::collections::VecDeque;

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Param, Process, Sampler, Setting, Start, Step, Stepper,
    exploding::exploding,
    interpolation::exponential_weights,
    options::{ETA, S_NOISE, whole},
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("sa_solver", "SA-Solver", |start| Ok(exploding(start, SaSolver::of(start, false))))
        .aliases(["sa_solver_pec", "SASolverScheduler"])
        .about("A stochastic Adams method that predicts the next latent and corrects it there. Noise is drawn in the middle of the run.")
        .stochastic()
        .params(params())
}

pub(super) fn params() -> [Param; 5] {
    [ETA.param(), S_NOISE.param(), PREDICTOR.param(), CORRECTOR.param(), simple_order_2().param()]
}

/// ComfyUI sample_sa_solver: predictor_order.
static PREDICTOR: Setting<usize> =
    whole("predictor_order", "Predictor order", [3, 1, 4], "How many steps a prediction goes by.");
/// ComfyUI sample_sa_solver: corrector_order.
static CORRECTOR: Setting<usize> =
    whole("corrector_order", "Corrector order", [4, 0, 4], "How many steps a correction goes by; 0 corrects nothing.");

/// ComfyUI sample_sa_solver: use_simple_order_2; diffusers SASolverScheduler always does so.
fn simple_order_2() -> Setting<usize> {
    Setting::choice(
        "simple_order_2",
        "Simple order 2",
        ["off", "on"],
        "Whether what goes by two steps takes the line through them for its value in the middle, as diffusers has it.",
    )
}

#[derive(Clone)]
pub(super) struct SaSolver {
    eta: f64,
    s_noise: f64,
    predictor: usize,
    corrector: usize,
    simple_order_2: bool,
    /// Whether the model is asked again after a correction.
    again: bool,
    /// Noise is drawn in steps to levels between these.
    noisy: [f64; 2],
    /// What was denoised, the newest first.
    denoised: VecDeque<Tensor<4>>,
    last: Option<Prediction>,
}

/// A latent that was predicted, to be corrected.
#[derive(Clone)]
struct Prediction {
    /// What it was made from.
    x: Tensor<4>,
    tau: f64,
    noise: Option<Tensor<4>>,
}

impl SaSolver {
    pub(super) fn of(start: &Start, again: bool) -> Self {
        // ComfyUI sample_sa_solver: from a fifth of the run to four fifths.
        let noisy = [0.8, 0.2].map(|share| {
            let sigma = start.space.after(share);
            match start.space.process() {
                Process::Diffusion => sigma,
                Process::Flow => sigma / (1.0 - sigma),
            }
        });
        Self {
            eta: start.get(&ETA),
            s_noise: start.get(&S_NOISE),
            predictor: start.get(&PREDICTOR),
            corrector: start.get(&CORRECTOR),
            simple_order_2: start.get(&simple_order_2()) == 1,
            again,
            noisy,
            denoised: VecDeque::new(),
            last: None,
        }
    }

    /// The latent at the end of a step, without its noise, from the denoised latents at `levels`, the newest first.
    fn moved(&self, x: Tensor<4>, from: f64, to: f64, tau: f64, levels: &[f32]) -> Tensor<4> {
        let time = |sigma: f64| -sigma.ln();
        let nodes: Vec<f64> = levels.iter().map(|&level| time(level.into())).collect();
        let (rate, length) = (1.0 + tau.powi(2), time(to) - time(from));
        let mut weights = exponential_weights(&nodes, time(from), time(to), rate);
        if let ([newer, older], true) = (weights.as_mut_slice(), self.simple_order_2) {
            // The paper's appendix D; diffusers `SASolverScheduler` 0.42, for data predictions.
            let exact = (length * rate + (-length * rate).exp_m1()) / rate.powi(2);
            let more = rate * (length.powi(2) / 2.0 - exact) / (nodes[0] - nodes[1]);
            *newer += more;
            *older -= more;
        }
        let left = to / from * (-tau.powi(2) * length).exp();
        let add = |sum, (denoised, weight): (&Tensor<4>, f64)| sum + denoised.clone() * weight as f32;
        self.denoised.iter().zip(weights).fold(x * left as f32, add)
    }
}

impl Stepper for SaSolver {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let mut denoised = model.denoise(&x, at.sigma())?.latent;
        self.denoised.truncate(self.predictor.max(self.corrector) - 1);
        self.denoised.push_front(denoised.0.clone());
        let (sigma, sigma_next) = (f64::from(at.sigma()), f64::from(at.sigma_next()));
        let past: Vec<f32> = at.sigmas()[..=at.index()].iter().rev().copied().collect();
        // Lower orders towards the end, where steps grow in log sigma.
        let left = at.sigmas().len() - 1 - at.index();

        let mut x = x.0;
        let order = self.corrector.min(self.denoised.len()).min(left);
        if let Some(last) = self.last.take().filter(|_| order > 0 && (sigma_next > 0.0 || self.again)) {
            x = self.moved(last.x, past[1].into(), sigma, last.tau, &past[..order]);
            if let Some(noise) = last.noise {
                x = x + noise;
            }
            if self.again {
                denoised = model.denoise(&Latent(x.clone()), at.sigma())?.latent;
                self.denoised[0] = denoised.0.clone();
            }
        }
        if sigma_next == 0.0 {
            return Ok(denoised);
        }

        let tau = if (self.noisy[0]..=self.noisy[1]).contains(&sigma_next) { self.eta } else { 0.0 };
        let order = self.predictor.min(self.denoised.len()).min((left - 1).max(1));
        let mut next = self.moved(x.clone(), sigma, sigma_next, tau, &past[..order]);
        let length = (sigma / sigma_next).ln();
        let strength = sigma_next * (-(-2.0 * tau.powi(2) * length).exp_m1()).sqrt() * self.s_noise;
        let fresh = (strength > 0.0).then(|| noise.next(&Latent(x.clone())).0 * strength as f32);
        if let Some(fresh) = &fresh {
            next = next + fresh.clone();
        }
        self.last = Some(Prediction { x, tau, noise: fresh });
        Ok(Latent(next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
