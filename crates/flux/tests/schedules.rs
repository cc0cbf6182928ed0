//! The schedules of Black Forest Labs against the references, and how they stand in a catalog.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use diffusion_engine::{Catalog, parse};
use fixtures::{Golden, SIGMA};
use samplers::{Error, Options, Schedule, SigmaSpace};

fn schedule(name: &str) -> Schedule {
    flux::register(Catalog::builtin()).unwrap().schedule(name).unwrap()
}

fn flow(mu: Option<f64>) -> SigmaSpace {
    SigmaSpace::Flow { shift: mu.map(f64::exp), tokens: 4096 }
}

#[test]
fn schedules_are_those_of_the_references() {
    let golden = Golden::open("schedules.safetensors");
    let mut compared = 0;
    for name in golden.names().iter().filter(|name| ["flux", "flux2"].contains(&name.split('.').next().unwrap())) {
        // schedule.family.WIDTHxHEIGHT.steps, without a size for schnell
        let parts: Vec<&str> = name.split('.').collect();
        let (id, space, steps) = match parts[..] {
            [id, "dev", size, steps] => {
                let (w, h) = size.split_once('x').unwrap();
                let tokens = w.parse::<usize>().unwrap() / 16 * (h.parse::<usize>().unwrap() / 16);
                (id, SigmaSpace::Flow { shift: Some(flux::mu(tokens).exp()), tokens }, steps)
            }
            [id, "schnell", steps] => (id, flow(None), steps),
            _ => panic!("a golden of an unknown kind: {name}"),
        };
        let sigmas = schedule(id).sigmas(&space, steps.parse().unwrap(), &Options::default()).unwrap();
        let expected = golden.floats(name);
        assert_eq!(sigmas.len(), expected.len(), "{name}");
        for (found, expected) in sigmas.iter().zip(&expected) {
            let off = f64::from((found - expected).abs());
            assert!(off <= SIGMA * f64::from(*expected), "{name}: {found}, expected {expected}");
        }
        compared += 1;
    }
    assert!(compared >= 78, "{compared} schedules");
}

/// Of 1024 × 1024 pixels, to five digits, computed apart from both this engine and its goldens.
#[test]
fn flux_is_that_of_the_published_table() {
    const FIVE_DIGITS: f32 = 6e-5;
    let dev = [1.0, 0.90453, 0.75951, 0.51284, 0.0];
    let twenty = [
        1.0, 0.98361, 0.96601, 0.94708, 0.92665, 0.90453, 0.88051, 0.85434, 0.8257, 0.79424, 0.75951, 0.72098, 0.67799,
        0.62971, 0.5751, 0.51284, 0.4412, 0.35787, 0.25976, 0.14253, 0.0,
    ];
    // schnell's time is not shifted, but in Forge, whose shift is that of no picture; the profile `forge` has it as the makers do.
    let schnell = [1.0, 0.75, 0.5, 0.25, 0.0];
    let schnell_of_forge = [1.0, 0.89077, 0.73106, 0.47537, 0.0];
    let tables = [(Some(1.15), &dev[..]), (Some(1.15), &twenty), (None, &schnell), (Some(1.0), &schnell_of_forge)];
    for (mu, expected) in tables {
        let sigmas = schedule("flux").sigmas(&flow(mu), expected.len() - 1, &Options::default()).unwrap();
        assert_eq!(sigmas.len(), expected.len());
        let is_near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= FIVE_DIGITS * expected;
        assert!(sigmas.iter().zip(expected).all(is_near), "{sigmas:?}, expected {expected:?}");
    }
}

#[test]
fn every_schedule_descends_to_zero_from_1_to_1000_steps() {
    for schedule in flux::schedules() {
        for space in [None, Some(0.5), Some(3.23)].map(flow) {
            for steps in [1, 2, 3, 4, 7, 10, 20, 50, 999, 1000] {
                let sigmas = schedule.sigmas(&space, steps, &Options::default()).unwrap();
                assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "{} {steps} {space:?}", schedule.id);
                assert_eq!((sigmas.steps(), sigmas[steps]), (steps, 0.0), "{}", schedule.id);
            }
        }
        let unsuited = schedule.sigmas(&SigmaSpace::Discrete, 4, &Options::default());
        assert!(matches!(unsuited, Err(Error::Unsuited { instead, .. }) if instead == "simple"), "{}", schedule.id);
    }
}

#[test]
fn they_are_found_by_the_names_that_other_programs_have_for_them() {
    for (name, id) in [("flux", "flux"), ("bfl", "flux"), ("Flux", "flux"), ("flux2", "flux2"), ("Flux.2", "flux2")] {
        assert_eq!(schedule(name).id, id, "{name}");
    }
    let catalog = flux::register(Catalog::builtin()).unwrap();
    let (sampler, ending) = catalog.sampler_and_schedule("euler_flux").unwrap();
    assert_eq!((sampler.id.as_str(), ending.unwrap().id.as_str()), ("euler", "flux"));
}

#[test]
fn a_guidance_scale_is_the_distilled_one_of_these_models_alone() {
    let catalog = flux::register(Catalog::builtin()).unwrap();
    let own = Some(samplers::Value::Number(2.5));
    for (model, expected) in [
        ("flux1-dev", (1.0.into(), own.clone())),
        ("FLUX.1 schnell", (1.0.into(), own)),
        ("sd_xl_base", (2.5.into(), None)),
    ] {
        let text = format!("a\nSteps: 4, Seed: 1, Guidance scale: 2.5, Model: {model}");
        let request = parse(&text, flux::knobs()).request(&catalog).unwrap();
        let pass = request.pass;
        assert_eq!((pass.cfg, pass.knobs.value("guidance").cloned()), expected, "{model}");
    }
}
