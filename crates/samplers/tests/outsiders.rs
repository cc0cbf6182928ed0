//! Samplers and schedules of a program of its own: closures that keep state, names made at run time, and faults that stay errors.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod analytic;

use std::sync::{Arc, Mutex};

use core_tensor::{Device, Latent, tensor, values};
use samplers::{
    Calls, Denoiser, Error, Noise, Options, Process, Registry, Sampler, Schedule, Setting, SigmaSpace, Start, Step,
    Stepper, Value,
    noise::{Generator, NoiseSource},
};

use crate::analytic::{Analytic, space};

/// Euler's method, and what it tells whoever made it.
#[derive(Clone)]
struct Counting {
    gain: f64,
    steps: Arc<Mutex<usize>>,
}

impl Stepper for Counting {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        *self.steps.lock().unwrap() += 1;
        let denoised = model.denoise(&x, at.sigma())?.latent;
        let change = (at.sigma_next() / at.sigma() - 1.0) * self.gain as f32;
        Ok(Latent(x.0.clone() + (x.0 - denoised.0) * change))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

struct Silent;

impl Noise for Silent {
    fn next(&mut self, _: &Latent) -> Latent {
        panic!("draws no noise")
    }

    fn between(&mut self, like: &Latent, _: f32, _: f32) -> Latent {
        self.next(like)
    }
}

fn on_flow(options: &Options, steps: usize) -> Start<'_> {
    Start { space: space(Process::Flow), steps, options }
}

/// Where a sampler of a registry ends on a flow, over the levels of a schedule of it.
fn ends(registry: &Registry, name: &str, options: &Options) -> Vec<f32> {
    let (sampler, schedule) = registry.sampler_and_schedule(name).unwrap();
    options.checked(&sampler.params).unwrap();
    let start = on_flow(options, 6);
    let levels = schedule.unwrap().sigmas(&start.space, 6, options).unwrap();
    let (sigmas, mut stepper) = sampler.begin(&start, levels).unwrap();
    let drawn = Generator::new(NoiseSource::Cpu, 3).randn(16);
    let mut x = Latent(tensor(drawn, [1, 1, 4, 4], &Device::flex()));
    for index in 0..sigmas.steps() {
        let at = Step::of(&sigmas, index).unwrap();
        x = stepper.step(at, x, &mut Analytic(Process::Flow), &mut Silent).unwrap();
    }
    values(&x.0)
}

#[test]
fn a_sampler_behind_a_closure_that_owns_state_is_one_like_any_other() {
    // given a sampler whose name is made at run time and that counts what it does
    let (runs, steps) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let gain = Setting::number("gain", "Gain", [1.0, 0.0, 2.0], "What the slope is multiplied by.");
    let name = format!("counting_{}", std::process::id());
    let mine = {
        let (runs, steps, gain) = (runs.clone(), steps.clone(), gain.clone());
        Sampler::new(&name, format!("Counting {}", std::process::id()), move |start| {
            *runs.lock().unwrap() += 1;
            Ok(Box::new(Counting { gain: start.get(&gain), steps: steps.clone() }))
        })
    };
    let mine = mine.about("Counts.").calls(Calls::Each(1)).params([gain.param()]);
    let registry = Registry::builtin().with_sampler(mine.clone()).unwrap();
    // when two runs of it are taken by its name
    let whole = format!("{name} karras").to_uppercase();
    let plain = ends(&registry, &whole, &Options::default());
    let mut options = Options::default();
    options.set("gain", Value::Number(0.5));
    let gained = ends(&registry, &whole, &options);
    // then it was asked, and its option counts
    assert_eq!((*runs.lock().unwrap(), *steps.lock().unwrap()), (2, 12));
    assert_ne!(plain, gained);
    let euler = ends(&registry, "euler karras", &Options::default());
    assert!(plain.iter().zip(&euler).all(|(a, b)| (a - b).abs() < 1e-5), "{plain:?}, {euler:?}");
    assert_eq!(registry.sampler(&name).unwrap(), mine);
}

#[test]
fn a_schedule_behind_a_closure_that_owns_state_is_one_like_any_other() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let name = format!("halves {}", std::process::id());
    let mine = Schedule::new(name.replace(' ', "_"), &name, {
        let asked = asked.clone();
        move |space, steps, _| {
            asked.lock().unwrap().push(steps);
            let (highest, _) = space.ends();
            Ok((0..steps).map(|i| highest * 0.5f64.powi(i as i32)).collect())
        }
    });
    let registry = Registry::builtin().with_schedule(mine).unwrap();
    let schedule = registry.schedule(&name.to_uppercase()).unwrap();
    let sigmas = schedule.sigmas(&space(Process::Flow), 3, &Options::default()).unwrap();
    assert_eq!(sigmas[..], [1.0, 0.5, 0.25, 0.0]);
    assert_eq!(*asked.lock().unwrap(), [3]);
    // and it may stand behind a sampler's name
    assert_eq!(registry.sampler_and_schedule(&format!("Euler {name}")).unwrap().1, Some(schedule));
}

#[test]
fn levels_that_are_none_are_errors() {
    let wrong: [&[f64]; 6] = [&[], &[f64::NAN], &[f64::INFINITY, 1.0], &[0.5, 0.7], &[0.5, 0.5], &[1.0, -1.0]];
    for levels in wrong {
        let schedule = Schedule::new("wrong", "Wrong", move |_, _, _| Ok(levels.to_vec()));
        let found = schedule.sigmas(&space(Process::Flow), 2, &Options::default());
        assert!(matches!(found, Err(Error::Levels { .. })), "{levels:?}: {found:?}");
    }
    let options = Options::default();
    let start = on_flow(&options, 2);
    let given = samplers::simple().sigmas(&start.space, 2, &options).unwrap();
    let wrong: [&[f32]; 6] = [&[], &[1.0], &[f32::NAN, 0.0], &[1.0, f32::INFINITY], &[1.0, -0.5], &[0.5, 1.5, 0.0]];
    for levels in wrong {
        let sampler = Sampler::new("wrong", "Wrong", |start| samplers::euler().start(start));
        let found = sampler.levels(move |_, _| Ok(levels.to_vec())).begin(&start, given.clone());
        assert!(matches!(found.map(|_| ()), Err(Error::Levels { .. })), "{levels:?}");
    }
}

#[test]
fn what_stands_behind_an_entry_may_fail_for_a_cause_of_its_own() {
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let schedule = Schedule::new("child", "Child", move |_: &SigmaSpace, _, _: &Options| {
        Err(Error::Schedule { schedule: "child".to_owned(), source: gone().into() })
    });
    let error = schedule.sigmas(&space(Process::Flow), 2, &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "schedule `child` failed");
    let sampler = Sampler::new("child", "Child", move |_| {
        Err(Error::Sampler { sampler: "child".to_owned(), source: gone().into() })
    });
    let options = Options::default();
    let Err(error) = sampler.start(&on_flow(&options, 2)) else { panic!("it began") };
    assert_eq!(error.to_string(), "sampler `child` failed");
    assert!(std::error::Error::source(&error).is_some());
}
