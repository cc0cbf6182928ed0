//! Restart: Heun's steps down, and on the way back up once or twice with new noise.
//!
//! References: Xu et al. 2023 (Restart Sampling for Improving Generative Processes, arXiv 2306.14878), algorithm 1; Forge
//! `restart_sampler` (modules/sd_samplers_extra.py, dfdcbab) for the levels.

use core_tensor::Latent;

use super::{euler::slope, heun};
use crate::{
    Calls, Denoiser, Error, Noise, Sampler, Start, Step, Stepper, options::S_NOISE, schedules, schedules::karras,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("restart", "Restart", |start| Ok(Box::new(Restart { s_noise: start.get(&S_NOISE) as f32 })))
        .about("Heun's steps down, and from sigma 0.1 back up to 2 with new noise, once from 20 steps and twice from 36. Its levels are \
            `karras` ones between the ends of the schedule's.")
        .calls(Calls::EachOfOwn(2))
        .stochastic()
        .params([S_NOISE.param()])
        .diffusion_alone("heun")
        .levels(|start, given| Ok(levels(start, given)))
        .automatic(schedules::karras::schedule())
}

/// Where the way back begins and ends (Forge restart_sampler: restart_list).
const FROM_TO: [f64; 2] = [0.1, 2.0];

#[derive(Clone)]
struct Restart {
    s_noise: f32,
}

impl Stepper for Restart {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, noise: &mut dyn Noise) -> Result<Latent, Error> {
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        if sigma_next > sigma {
            let added = (sigma_next.powi(2) - sigma.powi(2)).sqrt() * self.s_noise;
            let fresh = noise.next(&x).0;
            return Ok(Latent(x.0 + fresh * added));
        }
        let denoised = model.denoise(&x, sigma)?.latent;
        let here = slope(x.0.clone(), denoised.0, sigma);
        heun::step(x, here, [sigma, sigma_next], model)
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

fn levels(Start { space, .. }: &Start, given: &[f32]) -> Vec<f32> {
    let steps = given.len() - 1;
    let (back, times) = match steps {
        0..20 => return given.to_vec(),
        20..36 => (9, 1),
        36.. => (steps / 4, 2),
    };
    let [first, last] = [given[0], given[steps - 1]].map(f64::from);
    let mut main = karras::between(space, first, last, steps - back * times, karras::RHO);
    main.push(0.0);
    let nearest = |to: f64| {
        let distance = |i: &usize| (main[*i] - to).abs();
        (0..main.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    };
    let [low, high] = FROM_TO.map(nearest);
    let mut visited = main[..=low].to_vec();
    if high < low && low > 0 {
        for _ in 0..times {
            visited.extend(karras::between(space, main[high], main[low], back + 1, karras::RHO));
            // Back to the very level, where rounding would make it another.
            visited.pop();
            visited.push(main[low]);
        }
    }
    visited.extend(&main[low + 1..]);
    visited.into_iter().map(|sigma| sigma as f32).collect()
}
