//! What samplers themselves cost: steps around a model that answers at once.

use std::time::Instant;

use core_tensor::{Device, Latent, tensor};
use samplers::{
    Denoiser, Error, Noise, Process, SAMPLERS, SIMPLE, SigmaSpace, Step,
    noise::{Generator, NoiseSource},
};

use crate::report::{Report, middle};

/// Flux's latent of 1024 × 1024 pixels.
const SHAPE: [usize; 4] = [1, 16, 128, 128];
const STEPS: usize = 20;

/// Gives the latent back as it is.
struct Nothing;

impl Denoiser for Nothing {
    fn denoise(&mut self, x: &Latent, _: f32) -> Result<Latent, Error> {
        Ok(x.clone())
    }
}

struct Drawn(Generator);

impl Noise for Drawn {
    fn next(&mut self, like: &Latent) -> Latent {
        let shape = like.0.dims();
        Latent(tensor(self.0.randn(shape.iter().product()), shape, &like.0.device()))
    }
}

/// The median step of each sampler, the noise that it draws included.
pub(crate) fn samplers(report: &mut Report) -> Result<(), Error> {
    for sampler in SAMPLERS {
        let case = format!("a step of {} itself", sampler.id);
        if !report.wants(&case) {
            continue;
        }
        let sigmas = SIMPLE.sigmas(&SigmaSpace::Flow { mu: Some(1.15) }, STEPS)?;
        let mut noise = Drawn(Generator::new(NoiseSource::Cpu, 1));
        let mut x = Latent(tensor(noise.0.randn(SHAPE.iter().product()), SHAPE, &Device::flex()));
        let mut stepper = (sampler.start)(Process::Flow);
        let mut seconds = Vec::new();
        while let Some(at) = Step::of(&sigmas, seconds.len()) {
            let start = Instant::now();
            x = stepper.step(at, x, &mut Nothing, &mut noise)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        report.whole(&case, middle(seconds));
    }
    Ok(())
}
