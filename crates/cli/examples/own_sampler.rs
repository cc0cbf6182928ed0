//! The `forge` command with a sampler and a schedule of one's own: `cargo run --package forge-cli --example own_sampler -- samplers`.

use std::process::ExitCode;

use cli::forge::{
    core_tensor::Latent,
    diffusion_engine::Catalog,
    samplers::{Calls, Denoiser, Error, Noise, Sampler, Schedule, Setting, Step, Stepper},
};

/// Named in configs, flags and pictures like any other.
fn midpoint() -> Sampler {
    let place =
        Setting::number("place", "Midpoint place", [0.5, 0.1, 0.9], "Where in the step the second slope is taken.");
    let params = [place.param()];
    Sampler::new("midpoint", "Midpoint", move |start| Ok(Box::new(Midpoint { place: start.get(&place) as f32 })))
        .about("The slope in the middle of the step, where sigma is the mean of its ends.")
        .calls(Calls::Each(2))
        .params(params)
}

#[derive(Clone)]
struct Midpoint {
    place: f32,
}

impl Stepper for Midpoint {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        let middle = sigma + (sigma_next - sigma) * self.place;
        let denoised = model.denoise(&x, sigma)?.latent;
        if sigma_next == 0.0 {
            return Ok(denoised);
        }
        let half_way = Latent(denoised.0.clone() + (x.0.clone() - denoised.0) * (middle / sigma));
        let denoised = model.denoise(&half_way, middle)?.latent;
        let slope = (half_way.0 - denoised.0) / middle;
        Ok(Latent(x.0 + slope * (sigma_next - sigma)))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

/// Takes the place of the engine's own `simple`.
fn squares() -> Schedule {
    Schedule::new("simple", "Squares", |space, steps, _| {
        let (highest, _) = space.ends();
        Ok((0..steps).map(|i| highest * (1.0 - i as f64 / steps as f64).powi(2)).collect())
    })
    .about("Squares of even times, from the highest level that the model knows.")
}

fn registry() -> Result<Catalog, Error> {
    forge::catalog().with_sampler(midpoint())?.with_schedule(squares())
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
