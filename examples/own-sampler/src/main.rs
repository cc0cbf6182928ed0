//! The `forge` command with a sampler and a schedule of its own: `cargo run -- samplers` in this folder.

use std::process::ExitCode;

use cli::forge::{
    core_tensor::Latent,
    samplers::{Calls, Denoiser, Error, Noise, Registry, Sampler, Schedule, Step, Stepper},
};

/// Named in configs, flags and pictures like any other.
static MIDPOINT: Sampler = Sampler {
    id: "midpoint",
    label: "Midpoint",
    about: "The slope in the middle of the step, where sigma is the mean of its ends.",
    calls: Calls::Each(2),
    start: |_| Box::new(Midpoint),
    ..Sampler::PLAIN
};

struct Midpoint;

impl Stepper for Midpoint {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        let middle = (sigma + sigma_next) / 2.0;
        let denoised = model.denoise(&x, sigma)?;
        if sigma_next == 0.0 {
            return Ok(denoised);
        }
        let half_way = Latent(denoised.0.clone() + (x.0.clone() - denoised.0) * (middle / sigma));
        let denoised = model.denoise(&half_way, middle)?;
        let slope = (half_way.0 - denoised.0) / middle;
        Ok(Latent(x.0 + slope * (sigma_next - sigma)))
    }
}

/// Takes the place of the engine's own `simple`.
static SQUARES: Schedule = Schedule {
    id: "simple",
    label: "Squares",
    about: "Squares of even times, from the highest level that the model knows.",
    levels: |space, steps, _| {
        let (highest, _) = space.ends();
        (0..steps).map(|i| highest * (1.0 - i as f64 / steps as f64).powi(2)).collect()
    },
    ..Schedule::PLAIN
};

fn registry() -> Result<Registry, Error> {
    Registry::builtin().with_sampler(&MIDPOINT)?.with_schedule(&SQUARES)
}

fn main() -> ExitCode {
    match registry() {
        Ok(registry) => cli::command(&registry, std::env::args_os()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
