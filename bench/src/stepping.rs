//! What samplers themselves cost: steps around a model that answers at once.

use std::time::Instant;

use core_tensor::{Device, Latent, tensor};
use samplers::{
    Denoised, Denoiser, Error, Noise, Options, Processes, Registry, SigmaSpace, Start, Step,
    noise::{Brownian, Generator, NoiseSource},
};

use crate::report::{Report, middle};

/// Flux's latent of 1024 × 1024 pixels.
const SHAPE: [usize; 4] = [1, 16, 128, 128];
const STEPS: usize = 20;

/// Gives the latent back as it is.
struct Nothing;

impl Denoiser for Nothing {
    fn denoise(&mut self, x: &Latent, _: f32) -> Result<Denoised, Error> {
        Ok(Denoised { latent: x.clone(), negative: Some(x.clone()) })
    }
}

struct Drawn(Generator, Option<Brownian>);

impl Noise for Drawn {
    fn next(&mut self, like: &Latent) -> Latent {
        let shape = like.0.dims();
        Latent(tensor(self.0.randn(shape.iter().product()), shape, &like.0.device()))
    }

    fn between(&mut self, like: &Latent, sigma: f32, sigma_next: f32) -> Latent {
        let shape = like.0.dims();
        let path = || Brownian::new(NoiseSource::Cpu, 1, shape.iter().product(), 0.01, 20.0);
        Latent(tensor(self.1.get_or_insert_with(path).between(sigma, sigma_next), shape, &like.0.device()))
    }
}

/// The median step of each sampler, the noise that it draws included.
pub(crate) fn samplers(report: &mut Report) -> Result<(), Error> {
    for sampler in Registry::builtin().samplers() {
        let case = format!("a step of {} itself", sampler.id);
        if !report.wants(&case) {
            continue;
        }
        let space = match sampler.processes {
            Processes::All => SigmaSpace::Flow { shift: Some(3.16), tokens: 4096 },
            Processes::Diffusion { .. } => SigmaSpace::Discrete,
        };
        let options = Options::default();
        let start = Start { space, steps: STEPS, options: &options };
        let (sigmas, mut stepper) = sampler.begin(&start, samplers::simple().sigmas(&space, STEPS, &options)?)?;
        let mut noise = Drawn(Generator::new(NoiseSource::Cpu, 1), None);
        let mut x = Latent(tensor(noise.0.randn(SHAPE.iter().product()), SHAPE, &Device::flex()));
        let mut seconds = Vec::new();
        while let Some(at) = Step::of(&sigmas, seconds.len()) {
            let start = Instant::now();
            // In a pool, as in a run.
            x = rayon::scope(|_| stepper.step(at, x, &mut Nothing, &mut noise))?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        report.whole(&case, middle(seconds));
    }
    Ok(())
}
