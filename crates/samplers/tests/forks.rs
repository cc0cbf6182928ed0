//! A run that is put away after a step and taken up again ends in the bits of one that went on.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod analytic;

use core_tensor::{Device, Latent, tensor, values};
use samplers::{
    Denoised, Denoiser, Error, Noise, Options, Process, Registry, Sampler, Sigmas, Start, Step, Stepper,
    noise::{Brownian, Generator, NoiseSource},
};

use crate::analytic::{Analytic, space};

/// Two pictures, so that what is chosen for each of them counts.
const SHAPE: [usize; 4] = [2, 1, 4, 4];

/// A stream and a path, as an engine draws from.
#[derive(Clone)]
struct Seeded(Generator, Brownian);

impl Seeded {
    fn over(sigmas: &[f32]) -> Self {
        let lowest = sigmas.iter().copied().filter(|&sigma| sigma > 0.0).fold(f32::INFINITY, f32::min);
        let len = SHAPE.iter().product();
        Self(Generator::new(NoiseSource::Cpu, 7), Brownian::new(NoiseSource::Cpu, 7, len, sigmas[0], lowest))
    }
}

impl Noise for Seeded {
    fn next(&mut self, _: &Latent) -> Latent {
        Latent(tensor(self.0.randn(SHAPE.iter().product()), SHAPE, &Device::flex()))
    }

    fn between(&mut self, _: &Latent, sigma: f32, sigma_next: f32) -> Latent {
        Latent(tensor(self.1.between(sigma, sigma_next), SHAPE, &Device::flex()))
    }
}

/// Everything that a run changes.
struct Place {
    stepper: Box<dyn Stepper>,
    latent: Latent,
    noise: Seeded,
}

impl Place {
    fn fork(&self) -> Self {
        Self { stepper: self.stepper.fork(), latent: self.latent.clone(), noise: self.noise.clone() }
    }

    fn step(&mut self, at: Step, process: Process) {
        self.latent = self.stepper.step(at, self.latent.clone(), &mut Analytic(process), &mut self.noise).unwrap();
    }

    fn bits(&self) -> Vec<u32> {
        values(&self.latent.0).iter().map(|value| value.to_bits()).collect()
    }
}

/// A run of some steps, which may be fewer or more where a sampler has levels of its own.
fn begun(sampler: &Sampler, process: Process, steps: usize) -> Option<(Sigmas, Place)> {
    let options = Options::default();
    let start = Start { space: space(process), steps, options: &options };
    let levels = samplers::simple().sigmas(&start.space, steps, &options).unwrap();
    let (sigmas, stepper) = match sampler.begin(&start, levels) {
        Err(Error::UnsuitedSampler { .. }) => return None,
        begun => begun.unwrap(),
    };
    let mut noise = Seeded::over(&sigmas);
    let latent = Latent(tensor(noise.0.randn(SHAPE.iter().product()), SHAPE, &Device::flex()) * sigmas[0]);
    Some((sigmas, Place { stepper, latent, noise }))
}

#[test]
fn a_run_that_is_forked_after_any_step_ends_in_the_same_bits() {
    let mut compared = 0;
    for sampler in Registry::builtin().samplers() {
        for process in [Process::Diffusion, Process::Flow] {
            // `restart` goes back up from 20 steps.
            for steps in [9, 24] {
                let Some((sigmas, mut run)) = begun(sampler, process, steps) else { continue };
                // given a run that is forked after each of its first steps
                let mut forks = Vec::new();
                for index in 0..sigmas.steps() {
                    if index < 9 {
                        forks.push((index, run.fork()));
                    }
                    run.step(Step::of(&sigmas, index).unwrap(), process);
                }
                // when a fork goes on, after the run did and in the midst of other forks
                for (from, mut fork) in forks {
                    for index in from..sigmas.steps() {
                        fork.step(Step::of(&sigmas, index).unwrap(), process);
                    }
                    // then it ends where the run did
                    assert_eq!(fork.bits(), run.bits(), "{}, {process:?}, after step {from} of {steps}", sampler.id);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 1000, "{compared} forks");
}

#[test]
fn a_fork_of_a_stepper_that_remembers_differs_from_a_new_one() {
    // What the test above would miss: forks that remember nothing, of samplers that begin anew at every step.
    for id in ["dpmpp_2m", "unipc", "sa_solver", "deis", "res_multistep", "er_sde"] {
        let sampler = &Registry::builtin().sampler(id).unwrap();
        let (sigmas, mut run) = begun(sampler, Process::Flow, 9).unwrap();
        (0..4).for_each(|index| run.step(Step::of(&sigmas, index).unwrap(), Process::Flow));
        let mut anew = run.fork();
        anew.stepper = begun(sampler, Process::Flow, 9).unwrap().1.stepper;
        for place in [&mut run, &mut anew] {
            place.step(Step::of(&sigmas, 4).unwrap(), Process::Flow);
        }
        assert_ne!(run.bits(), anew.bits(), "{id}");
    }
}

/// Answers that have nothing to do with each other.
struct Incoherent(Generator);

impl Denoiser for Incoherent {
    fn denoise(&mut self, x: &Latent, _: f32) -> Result<Denoised, Error> {
        let shape = x.0.dims();
        let values = self.0.randn(shape.iter().product()).into_iter().map(|value| value * 1e4).collect();
        Ok(Latent(tensor(values, shape, &Device::flex())).into())
    }
}

#[test]
fn an_adaptive_sampler_gives_up_on_a_model_that_never_satisfies_it() {
    for sampler in Registry::builtin().samplers().iter().filter(|sampler| sampler.has_own_levels()) {
        let id = sampler.id.as_str();
        let (sigmas, mut run) = begun(sampler, Process::Diffusion, 9).unwrap();
        let mut model = Incoherent(Generator::new(NoiseSource::Cpu, 0));
        let ends = (0..sigmas.steps()).try_fold(run.latent, |x, index| {
            run.stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut model, &mut run.noise)
        });
        match (id, ends) {
            ("dpm_adaptive", Err(Error::TooManyCalls { max: 3000, .. })) => {}
            ("dpm_adaptive", other) => panic!("{other:?}"),
            (_, other) => assert!(other.is_ok(), "{id}: {other:?}"),
        }
    }
}
