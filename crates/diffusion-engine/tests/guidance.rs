//! What methods make of a model's answers, against diffusers and formulas in float64, and which calls they spare.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod toy;

use std::sync::{Arc, Mutex};

use core_tensor::{Device, Latent, Tensor, tensor, values};
use diffusion_engine::{
    Around, Call, Cancel, Clock, Conditioned, Conditions, Error, HookError, Hooks, Inside, Job, Model, Pass, Place,
    Predictor, Run, Settings, Site, Wrap, methods, start,
};
use fixtures::Golden;
use samplers::{Denoised, Denoiser, Prediction, Process, SigmaSpace, Sigmas, Step, Value};

use crate::toy::{Toy, request};

/// A model whose answers were written down.
struct Written(std::vec::IntoIter<Denoised>);

impl Denoiser for Written {
    fn denoise(&mut self, _: &Latent, _: f32) -> Result<Denoised, samplers::Error> {
        Ok(self.0.next().unwrap())
    }
}

struct Silent;

impl Predictor for Silent {
    fn predict(&mut self, _: &Latent, _: f32, _: &[usize], _: &Inside) -> Result<Vec<Latent>, Error> {
        unreachable!("nothing asks again")
    }
}

fn set(pass: &mut Pass, keys: &[(&'static str, Value)]) {
    keys.iter().for_each(|(name, value)| pass.knobs.set(name, value.clone()));
}

fn number(x: f64) -> Value {
    Value::Number(x)
}

fn name(name: &str) -> Value {
    Value::Name(name.into())
}

/// What these settings make of the golden answers, one call a step.
fn guided(keys: &[(&'static str, Value)], predicts: Prediction) -> Vec<f32> {
    let golden = Golden::open("guidance.safetensors");
    let shape: [usize; 4] = golden.shape("x").try_into().unwrap();
    let [steps, c, h, w] = shape;
    let row = |of: &str, i: usize| {
        let all = tensor(golden.floats(of), shape, &Device::flex());
        Latent(all.narrow(0, i, 1))
    };
    let mut pass = Pass { cfg: 7.5.into(), ..Pass::of("") };
    set(&mut pass, keys);
    let written = (0..steps).map(|i| Denoised { latent: row("positive", i), negative: Some(row("negative", i)) });
    let (clock, levels) = (Clock::default(), [golden.floats("sigmas"), vec![0.0]].concat());
    let sigmas = Sigmas::literal(&levels.iter().map(|&s| f64::from(s)).collect::<Vec<_>>()).unwrap();
    let again = Conditioned::new(Box::new(Silent), Conditions::constant(true), Inside::default()).shared();
    let space = SigmaSpace::Discrete;
    assert_eq!(space.process(), Process::Diffusion);
    let at = Around {
        pass: &pass,
        space,
        sigmas: &sigmas,
        shape: [1, c, h, w],
        clock: &clock,
        predicts: Some(predicts),
        again: &again,
    };
    let wraps: Vec<Arc<dyn Wrap>> = methods::all()
        .iter()
        .filter(|method| method.is_asked(&pass))
        .flat_map(|method| (method.wraps)(&Settings::of(&pass)))
        .collect();
    let own = wraps.iter().any(|wrap| wrap.place() == Place::Guidance);
    let plain: Option<Arc<dyn Wrap>> = (!own).then(|| Arc::new(diffusion_engine::Guidance) as _);
    let of_place = |place| wraps.iter().chain(&plain).filter(move |wrap| wrap.place() == place);
    let all = of_place(Place::Inside).chain(of_place(Place::Guidance)).chain(of_place(Place::Outside));
    let inner: Box<dyn Denoiser> = Box::new(Written(written.collect::<Vec<_>>().into_iter()));
    let mut denoiser = all.fold(inner, |inner, wrap| wrap.around(inner, &at).unwrap());
    let call = |i: usize| {
        clock.begins(&Step::of(&levels, i).unwrap());
        values(&denoiser.denoise(&row("x", i), levels[i]).unwrap().latent.0)
    };
    (0..steps).flat_map(call).collect()
}

#[test]
fn methods_make_of_answers_what_the_references_make() {
    let golden = Golden::open("guidance.safetensors");
    let rescale = [("rescale", number(0.7))];
    let apg = [("apg", name("on")), ("apg_eta", number(0.25)), ("apg_momentum", number(-0.5))];
    let epsilon = Prediction::Epsilon;
    let four = ("threshold", number(4.0));
    let three = ("threshold", number(3.0));
    type Case = (&'static str, Vec<(&'static str, Value)>, Prediction);
    let cases: [Case; 9] = [
        ("rescale.epsilon", rescale.to_vec(), epsilon),
        ("rescale.v", rescale.to_vec(), Prediction::V),
        ("rescale.flow", rescale.to_vec(), Prediction::Flow),
        ("apg", apg.to_vec(), epsilon),
        ("threshold.0", vec![four.clone()], epsilon),
        (
            "threshold.1",
            vec![
                four,
                ("threshold_percentile", number(0.9)),
                ("threshold_channels", name("disable")),
                ("threshold_mode", name("half cosine up")),
                ("threshold_min", number(1.0)),
            ],
            epsilon,
        ),
        (
            "threshold.2",
            vec![
                three.clone(),
                ("threshold_measure", name("std")),
                ("threshold_cfg_mode", name("linear down")),
                ("threshold_cfg_min", number(2.0)),
                ("threshold_share", number(0.6)),
            ],
            epsilon,
        ),
        (
            "threshold.3",
            vec![
                three,
                ("threshold_measure", name("std")),
                ("threshold_start", name("zero")),
                ("threshold_channels", name("disable")),
                ("threshold_mode", name("sawtooth")),
                ("threshold_power", number(1.3)),
            ],
            epsilon,
        ),
        (
            "threshold.4",
            vec![
                ("threshold", number(5.0)),
                ("threshold_percentile", number(0.95)),
                ("threshold_start", name("zero")),
                ("threshold_mode", name("power down")),
                ("threshold_power", number(2.0)),
                ("threshold_cfg_mode", name("cosine repeating")),
            ],
            epsilon,
        ),
    ];
    for (of, keys, predicts) in cases {
        golden.assert_stage(of, &guided(&keys, predicts));
    }
}

/// Writes down under which step and prompt the model is asked.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

impl Hooks for Calls {
    fn after(&self, at: Site, call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        if at == Site::block("network", "blocks", 0) {
            self.0.lock().unwrap().extend(call);
        }
        Ok(x)
    }
}

impl Wrap for Calls {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

fn run(job: Job) -> Run {
    start(Toy::new() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).unwrap()
}

fn finished(mut run: Run) -> Run {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

/// In which of the sampler's calls the model is asked for the negative prompt, and the noise levels of them all.
fn guided_calls(sampler: &str, steps: usize, keys: &[(&'static str, Value)]) -> (Vec<usize>, Vec<f32>) {
    let calls = Calls::default();
    let request = request("words").steps(steps).with(|pass| {
        (pass.cfg, pass.sampler) = (3.0.into(), samplers::Registry::builtin().sampler(sampler).unwrap());
        set(pass, keys);
    });
    finished(run(Job::of(request).unwrap().with(Arc::new(calls.clone()))));
    let calls = calls.0.lock().unwrap();
    let negative = calls.iter().filter(|call| call.negative).map(|call| call.at.call).collect();
    (negative, calls.iter().filter(|call| !call.negative).map(|call| call.sigma).collect())
}

#[test]
fn the_negative_prompts_call_is_spared_where_forge_spares_it() {
    // modules/sd_samplers_cfg_denoiser.py, whose `step` counts calls and whose `total_steps` are twice as many for samplers of two calls
    for (sampler, per_step) in [("euler", 1), ("heun", 2)] {
        let (all, sigmas) = guided_calls(sampler, 6, &[]);
        assert_eq!(all, (0..sigmas.len()).collect::<Vec<_>>());
        let is_kept = |kept: &dyn Fn(usize, f32) -> bool| {
            let calls = sigmas.iter().enumerate();
            calls.filter(|(call, sigma)| kept(*call, **sigma)).map(|(call, _)| call).collect::<Vec<_>>()
        };
        for share in [0.2, 0.5, 1.0] {
            let expected = is_kept(&|call, _| call as f64 / (6 * per_step) as f64 > share);
            assert_eq!(guided_calls(sampler, 6, &[("skip_early", number(share))]).0, expected, "{sampler} {share}");
        }
        let expected = is_kept(&|call, sigma| !(call % 2 == 1 && sigma < 0.6));
        assert_eq!(guided_calls(sampler, 6, &[("ngms", number(0.6))]).0, expected);
        assert!(expected.len() < sigmas.len());
        let expected = is_kept(&|_, sigma| sigma >= 0.6);
        assert_eq!(guided_calls(sampler, 6, &[("ngms", number(0.6)), ("ngms_all", name("on"))]).0, expected);
        let interval = [("interval", name("on")), ("interval_low", number(0.2)), ("interval_high", number(0.7))];
        assert_eq!(guided_calls(sampler, 6, &interval).0, is_kept(&|_, sigma| sigma > 0.2 && sigma <= 0.7));
        let interval = [("interval", name("on")), ("interval_from", number(0.4)), ("interval_to", number(0.9))];
        assert_eq!(guided_calls(sampler, 6, &interval).0, is_kept(&|call, _| (2..5).contains(&(call / per_step))));
    }
}

#[test]
fn a_sampler_that_needs_the_negative_answer_has_it_in_calls_without_guidance() {
    let drawn = |cfg: f32, keys: &[(&'static str, Value)]| {
        let request = request("words").with(|pass| {
            (pass.cfg, pass.negative) = (cfg.into(), "dull".into());
            pass.sampler = samplers::Registry::builtin().sampler("euler_cfg_pp").unwrap();
            set(pass, keys);
        });
        values(&finished(run(Job::of(request).unwrap())).latent().0)
    };
    let [plain, spared] = [drawn(1.0, &[]), drawn(4.0, &[("skip_early", number(1.0))])];
    for (plain, spared) in plain.iter().zip(&spared) {
        assert!((plain - spared).abs() < 1e-6, "{plain} {spared}");
    }
    assert_ne!(drawn(4.0, &[]), spared);
}

#[test]
fn every_method_goes_on_from_a_snapshot_as_if_nothing_had_been_and_begins_anew_in_another_run() {
    for method in of_any_model() {
        let request = request("words").with(|pass| {
            (pass.cfg, pass.negative) = (4.0.into(), "dull".into());
            let examples = method.keys.iter().filter_map(|key| Some((key, example(key)?)));
            examples.for_each(|(key, value)| pass.knobs.set(key.name, value));
        });
        let job = Job::of(request).unwrap();
        let model: Arc<dyn Model> = Toy::new();
        let begin = || start(model.clone(), job.clone(), Arc::default(), Cancel::default()).unwrap();
        let whole = values(&finished(begin()).latent().0);
        assert_eq!(values(&finished(begin()).latent().0), whole, "{}", method.id);
        let mut going = begin();
        for event in 0..4 {
            going.next().unwrap().unwrap();
            let snapshot = going.snapshot().unwrap();
            let [resumed, again] = [snapshot.clone(), snapshot]
                .map(|snapshot| finished(Run::resume(model.clone(), snapshot, Arc::default(), Cancel::default())));
            assert_eq!(values(&resumed.latent().0), whole, "{} behind event {event}", method.id);
            assert_eq!(values(&again.latent().0), whole, "{} behind event {event}", method.id);
        }
    }
}

/// Those that know no network's inside.
fn of_any_model() -> impl Iterator<Item = &'static diffusion_engine::Method> {
    methods::all().iter().filter(|method| method.networks.is_empty())
}

#[test]
fn a_method_of_networks_that_the_model_is_none_of_is_refused_by_both_names() {
    let request = request("words").with(|pass| set(pass, &[("freeu", name("v2"))]));
    let refused = start(Toy::new() as Arc<dyn Model>, Job::of(request).unwrap(), Arc::default(), Cancel::default());
    assert_eq!(
        refused.err().unwrap().to_string(),
        "freeu is asked of `toy`, another network, expected a UNet of Stable Diffusion, whose inside it is about"
    );
}

/// What the config's template sets a key to.
fn example(key: &diffusion_engine::Key) -> Option<Value> {
    let diffusion_engine::Fallback::Open { example, .. } = key.default else { return None };
    key.read(example.trim_matches('"')).option()
}

#[test]
fn what_a_key_sets_to_nothing_leaves_the_bits() {
    let drawn = |keys: &[(&'static str, Value)]| {
        let request = request("words").with(|pass| {
            (pass.cfg, pass.negative) = (4.0.into(), "dull".into());
            set(pass, keys);
        });
        values(&finished(run(Job::of(request).unwrap())).latent().0)
    };
    let plain = drawn(&[]);
    for method in of_any_model() {
        let first = method.keys[0];
        let off = if first.kind == methods::SWITCH { name("off") } else { number(0.0) };
        assert_eq!(drawn(&[(first.name, off)]), plain, "{}", method.id);
    }
}

#[test]
fn two_methods_in_guidances_place_are_refused_by_their_names() {
    let request = request("words").with(|pass| set(pass, &[("apg", name("on")), ("threshold", number(5.0))]));
    let refused = start(Toy::new() as Arc<dyn Model>, Job::of(request).unwrap(), Arc::default(), Cancel::default());
    assert_eq!(
        refused.err().unwrap().to_string(),
        "guidance is `apg` and `threshold`, expected one method in guidance's place"
    );
}
