//! Every sampler and schedule does what its entry declares, with any options.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod analytic;

use core_tensor::{Device, Latent, tensor, values};
use samplers::{
    Denoised, Denoiser, Error, Kind, Noise, Options, Param, Process, Processes, Registry, Sampler, Sigmas, Start, Step,
    Value, WebUi,
    noise::{Generator, NoiseSource},
};

use crate::analytic::{Analytic, space};

/// What can be set of one option: its ends and their middle, or each of its names.
fn values_of(param: &Param) -> Vec<Value> {
    match &param.kind {
        Kind::Number { min, max, .. } => [*min, (min + max) / 2.0, *max].map(Value::Number).into(),
        Kind::Whole { min, max, .. } => [min, max].map(|n| Value::Number(*n as f64)).into(),
        Kind::Choice(names) => names.iter().map(|name| Value::Name(name.to_string())).collect(),
    }
}

fn set(param: &Param, value: &Value) -> Options {
    let mut options = Options::default();
    options.set(&param.name, value.clone());
    options.checked(std::slice::from_ref(param)).unwrap();
    options
}

#[test]
fn whatever_is_set_of_a_schedule_its_levels_descend_or_it_is_an_error() {
    for schedule in Registry::builtin().schedules() {
        for (param, value) in schedule.params.iter().flat_map(|p| values_of(p).into_iter().map(move |v| (p, v))) {
            for space in [space(Process::Diffusion), space(Process::Flow)] {
                for steps in [1, 2, 5, 20, 1000] {
                    let what = format!("{} {}={value}, {steps} steps, {space:?}", schedule.id, param.name);
                    match schedule.sigmas(&space, steps, &set(param, &value)) {
                        Ok(sigmas) => assert!(sigmas.windows(2).all(|w| w[0] > w[1] && w[0].is_finite()), "{what}"),
                        Err(Error::Levels { .. } | Error::Unsuited { .. }) => {}
                        Err(other) => panic!("{what}: {other}"),
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_is_set_of_a_sampler_its_latents_are_numbers() {
    for sampler in Registry::builtin().samplers() {
        for (param, value) in sampler.params.iter().flat_map(|p| values_of(p).into_iter().map(move |v| (p, v))) {
            for process in [Process::Diffusion, Process::Flow] {
                let options = set(param, &value);
                let start = Start { space: space(process), steps: 6, options: &options };
                let levels = samplers::simple().sigmas(&start.space, 6, &options).unwrap();
                let Ok((sigmas, mut stepper)) = sampler.begin(&start, levels) else { continue };
                let mut noise = Counted { inner: Generator::new(NoiseSource::Cpu, 1), calls: 0, paths: 0 };
                let mut x = Latent(tensor(noise.inner.randn(16), [1, 1, 4, 4], &Device::flex()) * sigmas[0]);
                for index in 0..sigmas.steps() {
                    x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut Analytic(process), &mut noise).unwrap();
                    let finite = values(&x.0).iter().all(|v| v.is_finite());
                    assert!(finite, "{} {}={value}, {process:?}, step {index}", sampler.id, param.name);
                }
            }
        }
    }
}

/// Levels that end above 0, that begin below the model's highest, and that lie close together.
#[test]
fn whatever_the_levels_are_the_latents_are_numbers() {
    let close: Vec<f64> = (0..30).map(|i| 0.9 * 0.999f64.powi(i)).collect();
    for levels in [&[1.0, 0.6, 0.3, 0.1][..], &[0.9, 0.5, 0.2, 0.0], &[0.8, 0.79], &[1e-3, 1e-6, 0.0], &close] {
        for sampler in Registry::builtin().samplers() {
            for process in [Process::Diffusion, Process::Flow] {
                let options = Options::default();
                let start = Start { space: space(process), steps: levels.len() - 1, options: &options };
                let Ok((sigmas, mut stepper)) = sampler.begin(&start, Sigmas::literal(levels).unwrap()) else {
                    continue;
                };
                let mut noise = Counted { inner: Generator::new(NoiseSource::Cpu, 1), calls: 0, paths: 0 };
                let mut x = Latent(tensor(noise.inner.randn(16), [1, 1, 4, 4], &Device::flex()) * sigmas[0]);
                for index in 0..sigmas.steps() {
                    x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut Analytic(process), &mut noise).unwrap();
                    let values = values(&x.0);
                    let sane = values.iter().all(|v| v.abs() < 100.0);
                    assert!(sane, "{} {levels:?}, {process:?}, step {index}: {values:?}", sampler.id);
                }
            }
        }
    }
}

/// Counts what a sampler asks for.
struct Counted<T> {
    inner: T,
    calls: usize,
    /// How many of them ask a Brownian path.
    paths: usize,
}

impl Denoiser for Counted<Analytic> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        self.calls += 1;
        self.inner.denoise(x, sigma)
    }
}

impl Noise for Counted<Generator> {
    fn next(&mut self, like: &Latent) -> Latent {
        self.calls += 1;
        let shape = like.0.dims();
        Latent(tensor(self.inner.randn(shape.iter().product()), shape, &Device::flex()))
    }

    fn between(&mut self, like: &Latent, _: f32, _: f32) -> Latent {
        self.paths += 1;
        self.next(like)
    }
}

#[test]
fn samplers_do_what_their_entries_declare() {
    for sampler in Registry::builtin().samplers() {
        for process in [Process::Diffusion, Process::Flow] {
            for steps in [1, 2, 3, 20, 1000] {
                does_what_it_declares(sampler, process, steps);
            }
        }
    }
}

fn does_what_it_declares(sampler: &Sampler, process: Process, steps: usize) {
    const LARGEST: f32 = 100.0;
    // given a run of some steps
    let (id, options) = (&sampler.id, Options::default());
    let start = Start { space: space(process), steps, options: &options };
    let levels = samplers::simple().sigmas(&start.space, steps, &options).unwrap();
    let (sigmas, mut stepper) = match (sampler.begin(&start, levels), &sampler.processes, process) {
        (Err(Error::UnsuitedSampler { instead, .. }), Processes::Diffusion { .. }, Process::Flow) => {
            assert_eq!(Registry::builtin().sampler(&instead).unwrap().processes, Processes::All, "{id}");
            return;
        }
        (begun, ..) => begun.unwrap(),
    };
    let mut model = Counted { inner: Analytic(process), calls: 0, paths: 0 };
    let mut noise = Counted { inner: Generator::new(NoiseSource::Cpu, 1), calls: 0, paths: 0 };
    let drawn = noise.inner.randn(16);
    let mut x = Latent(tensor(drawn, [1, 1, 4, 4], &Device::flex()) * sigmas[0]);
    for index in 0..sigmas.steps() {
        x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut model, &mut noise).unwrap();
        if index + 1 == sigmas.steps() {
            break;
        }
        assert!(values(&x.0).iter().all(|v| v.is_finite()), "{id}, {steps} steps, step {index}");
    }
    // then it calls the model as often as declared
    if let Some(calls) = sampler.calls.of(steps) {
        assert_eq!(model.calls, calls, "{id}, {steps} steps");
    }
    // and draws noise only if it is declared to
    assert!(sampler.stochastic || noise.calls == 0, "{id}, {steps} steps: {} draws", noise.calls);
    assert!(!sampler.stochastic || noise.calls > 0 || steps < 20, "{id}, {steps} steps draw nothing");
    assert!(sampler.has_path || noise.paths == 0, "{id}, {steps} steps: a path");
    assert!(!sampler.has_path || noise.paths > 0 || steps < 20, "{id}, {steps} steps: no path");
    // CFG++ goes all of the way to the prompt in each step, and a thousand of them leave the data behind.
    let bounded = !sampler.needs_negative || steps <= 20;
    assert!(!bounded || values(&x.0).iter().all(|v| v.abs() < LARGEST), "{id}, {steps} steps: {:?}", values(&x.0));
}

#[test]
fn samplers_of_the_web_uis_have_the_options_of_those_that_they_stand_for_and_take_any_number_of_steps() {
    for sampler in [WebUi::A1111, WebUi::Forge].into_iter().flat_map(WebUi::samplers) {
        let names = |sampler: &Sampler| sampler.params.iter().map(|p| p.name.to_string()).collect::<Vec<_>>();
        let plain = Registry::builtin().sampler(&sampler.id).unwrap();
        assert_eq!((names(&sampler), &sampler.label), (names(&plain), &plain.label));
        for steps in [1, 2, 3, 20, 36, 150, 1000] {
            let (options, id) = (Options::default(), &sampler.id);
            let start = Start { space: space(Process::Diffusion), steps, options: &options };
            let levels = samplers::simple().sigmas(&sampler.spaces(start.space), steps, &options).unwrap();
            let (sigmas, mut stepper) = sampler.begin(&start, levels.clone()).unwrap();
            let mut noise = Counted { inner: Generator::new(NoiseSource::Cpu, 1), calls: 0, paths: 0 };
            let scale = sampler.starts_with(&levels, &sigmas);
            let mut x = Latent(tensor(noise.inner.randn(16), [1, 1, 4, 4], &Device::flex()) * scale);
            let mut model = Analytic(Process::Diffusion);
            for index in 0..sigmas.steps() {
                x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut model, &mut noise).unwrap();
            }
            let ends = values(&x.0);
            // as above of CFG++
            let bounded = !sampler.needs_negative || steps <= 36;
            assert!(
                ends.iter().all(|v| v.is_finite() && (!bounded || v.abs() < 100.0)),
                "{id}, {steps} steps: {ends:?}"
            );
        }
    }
}
