//! What a run does around a model, by one that has no weights.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod toy;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Latent, Tensor, values};
use diffusion_engine::{
    Around, Call, Cancel, Encoded, Encodings, Error, Event, HookError, Hooks, Image, Job, Look, Model, Place, Run,
    Site, Stage, Txt2Img, Wrap, start,
};
use samplers::{Denoised, Denoiser, Noise, Processes, Registry, Sampler, Step, Stepper};

use crate::toy::{BLOCKS, Painter, Toy, request};

fn run(model: &Arc<Toy>, job: Job) -> Run {
    start(model.clone() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).unwrap()
}

fn finished(mut run: Run) -> Run {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

/// Writes down, in the order of the calls, what a denoiser of this name sees.
struct Notes(&'static str, Arc<Mutex<Vec<String>>>);

impl Wrap for Notes {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, Error> {
        assert_eq!(at.shape[1..], [3, 4, 8]);
        Ok(Box::new(Noting { inner, name: self.0, notes: self.1.clone() }))
    }
}

struct Noting {
    inner: Box<dyn Denoiser>,
    name: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Denoiser for Noting {
    fn begin(&mut self, step: &Step) {
        self.notes.lock().unwrap().push(format!("{} step {}", self.name, step.index()));
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        self.notes.lock().unwrap().push(format!("{} asked", self.name));
        self.inner.denoise(x, sigma)
    }
}

#[test]
fn wraps_stand_around_each_other_in_order_and_see_each_step_begin() {
    let (model, notes) = (Toy::new(), Arc::new(Mutex::new(Vec::new())));
    let job = Job::of(request("words").steps(2)).unwrap();
    let job = job.with(Arc::new(Notes("inner", notes.clone()))).with(Arc::new(Notes("outer", notes.clone())));
    finished(run(&model, job));
    let step = |i| [format!("outer step {i}"), format!("inner step {i}"), "outer asked".into(), "inner asked".into()];
    assert_eq!(*notes.lock().unwrap(), [step(0), step(1)].concat());
}

/// Adds to the values behind one block, and counts.
#[derive(Clone, Default)]
struct Brighter(Arc<AtomicUsize>);

impl Hooks for Brighter {
    fn after(&self, at: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        if at != Site::block("network", "blocks", 1) {
            return Ok(x);
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(x + 0.5)
    }
}

impl Wrap for Brighter {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

#[test]
fn hooks_change_what_goes_on_behind_a_block() {
    let (model, brighter) = (Toy::new(), Brighter::default());
    let plain = finished(run(&model, Job::of(request("words")).unwrap()));
    let job = Job::of(request("words")).unwrap().with(Arc::new(brighter.clone()));
    let changed = finished(run(&model, job));
    assert_eq!(brighter.0.load(Ordering::Relaxed), 5);
    // The last step is the model's answer alone.
    for (changed, plain) in values(&changed.latent().0).iter().zip(values(&plain.latent().0)) {
        assert!((changed - plain - 0.5).abs() < 0.06, "{changed} {plain}");
    }
}

/// Asks to stop, or fails, or answers in another shape, behind the block with this number of all.
struct At<F>(AtomicUsize, usize, F);

impl<F: Fn(Tensor<3>) -> Result<Tensor<3>, HookError> + Send + Sync> Hooks for At<F> {
    fn after(&self, at: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        let is_here = at.block == "blocks" && self.0.fetch_add(1, Ordering::Relaxed) == self.1;
        if is_here { (self.2)(x) } else { Ok(x) }
    }
}

struct Hooked(Arc<dyn Hooks>);

impl Wrap for Hooked {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_run_stops_behind_the_block_in_which_it_is_asked_to() {
    // given a hook that asks in the midst of the third step
    let (model, cancel) = (Toy::new(), Cancel::default());
    let (asking, calls) = (cancel.clone(), Arc::new(AtomicUsize::new(0)));
    let asks = move |x| {
        asking.ask();
        Ok(x)
    };
    let counted = calls.clone();
    let count = Look(move |at: Site, _: &Tensor<3>| {
        counted.fetch_add(usize::from(at.block == "blocks"), Ordering::Relaxed);
    });
    let job = Job::of(request("words")).unwrap();
    let job = job.with(Arc::new(Hooked(Arc::new(At(AtomicUsize::new(0), 2 * BLOCKS + 1, asks)))));
    let job = job.with(Arc::new(Hooked(Arc::new(count))));
    let mut run = start(model.clone() as Arc<dyn Model>, job, Arc::default(), cancel).unwrap();
    // when it is driven, then the block is the last one
    let events: Vec<_> = run.by_ref().collect();
    assert!(matches!(events.last(), Some(Err(Error::Stopped { step: 2, steps: 5 }))), "{events:?}");
    assert_eq!(events.len(), 4);
    assert_eq!(calls.load(Ordering::Relaxed), 2 * BLOCKS + 2);
    // and there is nothing behind it
    assert!(run.next().is_none());
    assert!(matches!(run.images(), Err(Error::Unfinished { step: 2, steps: 5 })));
    assert!(matches!(run.snapshot(), Err(Error::Unsettled { step: 3 })));
}

#[test]
fn a_run_that_is_stopped_early_or_late_is_stopped_too() {
    let model = Toy::new();
    let mut early = run(&model, Job::of(request("words")).unwrap());
    early.cancel().ask();
    assert!(matches!(early.next(), Some(Err(Error::Stopped { step: 0, steps: 5 }))));
    assert_eq!(model.encoded.load(Ordering::Relaxed), 0);
    let late = finished(run(&model, Job::of(request("words")).unwrap()));
    late.cancel().ask();
    assert!(matches!(late.images(), Err(Error::Stopped { step: 5, steps: 5 })));
}

#[test]
fn a_hook_that_fails_or_changes_a_shape_ends_the_run_with_its_place() {
    let model = Toy::new();
    let told = |hook: fn(Tensor<3>) -> Result<Tensor<3>, HookError>| {
        let hooks = Hooked(Arc::new(At(AtomicUsize::new(0), 1, hook)));
        let mut run = run(&model, Job::of(request("words")).unwrap().with(Arc::new(hooks)));
        let failed = run.find_map(Result::err).unwrap();
        let causes = std::iter::successors(Some(&failed as &dyn std::error::Error), |e| e.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let failed = told(|_| Err("out of paper".into()));
    assert!(failed.contains("step 1 of 5") && failed.contains("`blocks.1` of the network: out of paper"), "{failed}");
    let shape = told(|x| Ok(x.narrow(1, 0, 1)));
    assert!(shape.contains("`blocks.1`") && shape.contains("[1, 1, 32]"), "{shape}");
    let nan = told(|x| Ok(x * f32::NAN));
    assert!(nan.contains("step 1 of 5") && nan.contains("not a number"), "{nan}");
}

#[test]
fn a_prompt_is_encoded_once_for_all_runs_that_share_its_encodings() {
    let (model, encodings) = (Toy::new(), Arc::new(Encodings::default()));
    let drawn = |prompt: &str| {
        let job = Job::of(request(prompt).with(|pass| pass.cfg = 2.0.into())).unwrap();
        let run = start(model.clone() as Arc<dyn Model>, job, encodings.clone(), Cancel::default()).unwrap();
        values(&finished(run).latent().0)
    };
    let first = drawn("words");
    // the words and the empty negative prompt
    assert_eq!(model.encoded.load(Ordering::Relaxed), 2);
    assert_eq!(drawn("words"), first);
    assert_eq!(model.encoded.load(Ordering::Relaxed), 2);
    assert_ne!(drawn("other words"), first);
    assert_eq!(model.encoded.load(Ordering::Relaxed), 3);
}

#[test]
fn one_picture_of_a_batch_is_decoded_alone_and_each_once() {
    let model = Toy::new();
    let run = finished(run(&model, Job::of(Txt2Img { batch: 3, ..request("words") }).unwrap()));
    let decoded = || model.painter.decoded.load(Ordering::Relaxed);
    let first = run.image().unwrap();
    assert_eq!(decoded(), 1);
    let all = run.images().unwrap();
    assert_eq!(decoded(), 3);
    assert_eq!(all[0], first);
    assert_eq!(run.pixels().unwrap().dims(), [3, 3, 4, 8]);
    assert_eq!(decoded(), 3);
}

#[test]
fn the_last_pictures_are_decoded_after_the_network_left_and_are_the_same() {
    let job = || Job::of(Txt2Img { batch: 3, ..request("words") }).unwrap();
    let model = Toy::new();
    let expected = finished(run(&model, job())).images().unwrap();
    let beside = |painter: &Painter| painter.beside.load(Ordering::Relaxed);
    assert_eq!(beside(&model.painter), 3);

    // While somebody else holds the model, it stays.
    let held = finished(run(&model, job()));
    assert_eq!(held.into_images().unwrap(), expected);
    assert_eq!(beside(&model.painter), 6);

    let painter = model.painter.clone();
    let last = finished(run(&model, job()));
    let first = last.image().unwrap();
    assert_eq!((beside(&painter), &first), (7, &expected[0]));
    drop(model);
    assert_eq!(last.into_images().unwrap(), expected);
    // The one that was decoded before is not decoded again.
    assert_eq!((beside(&painter), painter.decoded.load(Ordering::Relaxed)), (7, 9));
}

#[test]
fn a_run_with_steps_left_has_no_last_pictures() {
    let mut run = run(&Toy::new(), Job::of(request("words").steps(2)).unwrap());
    run.next().unwrap().unwrap();
    run.next().unwrap().unwrap();
    assert!(matches!(run.into_images(), Err(Error::Unfinished { step: 1, steps: 2 })));
}

#[test]
fn a_preview_is_what_the_model_sees_and_may_be_looked_at_from_another_thread() {
    let mut run = run(&Toy::new(), Job::of(request("words")).unwrap());
    let preview = run.preview();
    assert_eq!(preview.image().unwrap(), None);
    assert!(matches!(run.next(), Some(Ok(Event::Encoded { .. }))));
    assert!(matches!(run.next(), Some(Ok(Event::Step(_)))));
    let seen = std::thread::spawn(move || preview.image().unwrap().unwrap()).join().unwrap();
    assert_eq!((seen.width, seen.height), (8, 4));
    let finished = finished(run).image().unwrap();
    assert!(distance(&seen, &finished) < 30.0, "{}", distance(&seen, &finished));
}

/// Mean difference of two pictures' bytes.
fn distance(a: &Image, b: &Image) -> f64 {
    assert_eq!(a.pixels.len(), b.pixels.len());
    let differences = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)));
    differences.sum::<f64>() / a.pixels.len() as f64
}

#[test]
fn a_further_pass_goes_on_from_the_latent_of_the_one_before() {
    let model = Toy::new();
    let first = || Job::of(request("words").steps(4)).unwrap();
    let once = finished(run(&model, first()));
    let steps_of = |strength: f64| {
        let job = first().then(strength, |pass| pass.prompt = "many other words".into()).unwrap();
        let mut run = run(&model, job);
        let events: Vec<Event> = run.by_ref().map(Result::unwrap).collect();
        let steps = events.iter().filter(|event| matches!(event, Event::Step(_))).count();
        (steps - 4, values(&run.latent().0))
    };
    // A share of the steps is taken, as the profile has it.
    let (some, half_way) = steps_of(0.5);
    let (all, whole) = steps_of(1.0);
    assert_eq!((some, all), (3, 4));
    // and the picture is the second prompt's, with less of the first one's noise than of the new
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let (before, after) = (mean(&values(&once.latent().0)), mean(&half_way));
    assert!(after - before > 0.05 && (mean(&whole) - after).abs() < 0.05, "{before} {after} {}", mean(&whole));
    // a strength out of range is refused
    let refused = |job: Result<Job, Error>| matches!(job, Err(Error::Request { .. }));
    assert!([0.0, 1.5, f64::NAN].into_iter().all(|strength| refused(first().then(strength, |_| ()))));
}

#[test]
fn what_is_wrong_with_a_job_is_found_before_its_first_event() {
    let model = Toy::new();
    let start = |job: Job| start(model.clone() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).err();
    let size = Job::of(request("").size(diffusion_engine::Size { width: 10, height: 4 })).unwrap();
    assert!(matches!(start(size), Some(Error::Request { what: "width", .. })));
    let registry = Registry::builtin();
    let unsuited = registry.samplers().iter().find(|s| s.processes != Processes::All).unwrap().clone();
    let unsuited = Job::of(request("").with(|pass| pass.sampler = unsuited)).unwrap();
    assert!(matches!(start(unsuited), Some(Error::Sampling(_))));
    let noise = |value: f32| Latent(core_tensor::tensor(vec![value; 96], [1, 3, 4, 8], model.device()));
    let given = |noise| start(Job::of(request("")).unwrap().given_noise(noise));
    assert!(given(noise(1.0)).is_none());
    assert!(matches!(given(noise(f32::NAN)), Some(Error::NotFinite { stage: Stage::Noise })));
    let other = Latent(core_tensor::tensor(vec![1.0; 48], [1, 3, 4, 4], model.device()));
    assert!(matches!(given(other), Some(Error::Request { .. })));
    assert!(matches!(Job::of(request("").steps(0)), Err(Error::Sampling(_))));
}

#[test]
fn every_sampler_goes_on_from_a_snapshot_as_if_nothing_had_been() {
    let model = Toy::new();
    let registry = Registry::builtin();
    for sampler in registry.samplers().iter().filter(|s| s.processes == Processes::All) {
        let job =
            Job::of(Txt2Img { batch: 2, ..request("words").steps(6).with(|pass| pass.sampler = sampler.clone()) })
                .unwrap();
        let mut going = run(&model, job);
        let mut snapshots = vec![going.snapshot().unwrap()];
        while let Some(event) = going.next() {
            event.unwrap();
            snapshots.push(going.snapshot().unwrap());
        }
        for snapshot in snapshots {
            let step = snapshot.step();
            let resumed = Run::resume(model.clone(), snapshot, Arc::default(), Cancel::default());
            let (resumed, going) = (values(&finished(resumed).latent().0), values(&going.latent().0));
            assert_eq!(resumed, going, "{} from step {step}", sampler.id);
        }
    }
}

/// Stands in a place, and makes of both answers what its function says.
struct Combined(Place, fn(Denoised) -> Denoised);

impl Wrap for Combined {
    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, Error> {
        Ok(Box::new(Combining(inner, self.1)))
    }

    fn place(&self) -> Place {
        self.0
    }
}

struct Combining(Box<dyn Denoiser>, fn(Denoised) -> Denoised);

impl Denoiser for Combining {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        Ok((self.1)(self.0.denoise(x, sigma)?))
    }
}

#[test]
fn a_wrap_stands_inside_guidance_in_its_place_or_around_it() {
    let model = Toy::new();
    let guided = || {
        let request = request("some words").steps(1).with(|pass| (pass.cfg, pass.negative) = (3.0.into(), "no".into()));
        Job::of(request).unwrap()
    };
    let drawn = |job: Job| values(&finished(run(&model, job)).latent().0)[0];
    let with = |place, f| drawn(guided().with(Arc::new(Combined(place, f))));
    let (positive, negative) = (0.10, 0.02); // what the toy makes of the lengths of its prompts, in hundredths
    let noise = drawn(guided()) - (negative + 3.0 * (positive - negative));
    let expect = |found: f32, grey: f32| assert!((found - noise - grey).abs() < 1e-6, "{} {grey}", found - noise);
    // inside, each answer is seen by itself
    let swapped = |d: Denoised| Denoised { latent: d.negative.clone().unwrap(), negative: Some(d.latent) };
    expect(with(Place::Inside, swapped), positive + 3.0 * (negative - positive));
    // in guidance's place nothing else combines them
    expect(with(Place::Guidance, |d| d), positive);
    // and around it there is one answer, and the negative one beside it
    expect(with(Place::Outside, |d| Denoised { latent: d.negative.clone().unwrap(), ..d }), negative);
}

#[test]
fn hooks_know_the_call_and_a_wrap_may_change_the_prompts() {
    struct Calls(Arc<Mutex<Vec<(f32, usize)>>>);
    impl Hooks for Calls {
        fn after(&self, at: Site, call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
            assert_eq!(call.is_some(), at.network == "network");
            if at == Site::block("network", "blocks", 0) {
                self.0.lock().unwrap().extend(call.map(|call| (call.sigma, call.prompt)));
            }
            Ok(x)
        }
    }
    struct Turned(Arc<Mutex<Vec<(f32, usize)>>>);
    impl Wrap for Turned {
        fn conditioning(&self, prompts: Vec<Arc<Encoded>>) -> Result<Vec<Arc<Encoded>>, Error> {
            Ok(prompts.into_iter().rev().collect())
        }
        fn hooks(&self) -> Option<Arc<dyn Hooks>> {
            Some(Arc::new(Calls(self.0.clone())))
        }
    }
    let (model, calls) = (Toy::new(), Arc::default());
    let words = |prompt: &str, negative: &str| {
        Job::of(request(prompt).steps(2).with(|pass| (pass.cfg, pass.negative) = (2.0.into(), negative.into())))
            .unwrap()
    };
    let turned = finished(run(&model, words("some words", "no").with(Arc::new(Turned(Arc::clone(&calls))))));
    assert_eq!(*calls.lock().unwrap(), [(1.0, 0), (1.0, 1), (0.5, 0), (0.5, 1)]);
    let plain = finished(run(&model, words("no", "some words")));
    assert_eq!(values(&turned.latent().0), values(&plain.latent().0));
    // as many prompts must go on as came
    struct Dropped;
    impl Wrap for Dropped {
        fn conditioning(&self, _: Vec<Arc<Encoded>>) -> Result<Vec<Arc<Encoded>>, Error> {
            Ok(Vec::new())
        }
    }
    let mut dropped = run(&model, words("a", "b").with(Arc::new(Dropped)));
    assert!(matches!(dropped.next(), Some(Err(Error::Request { .. }))));
}

/// Makes something of a latent that a sampler should not.
#[derive(Clone, Copy)]
struct Makes(fn(Latent) -> Latent);

impl Stepper for Makes {
    fn step(&mut self, _: Step, x: Latent, _: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, samplers::Error> {
        Ok(self.0(x))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(*self)
    }
}

#[test]
fn a_step_that_makes_another_shape_or_no_number_ends_the_run_with_an_error() {
    let first_error = |makes: fn(Latent) -> Latent| {
        let sampler = Sampler::new("outsider", "Outsider", move |_| Ok(Box::new(Makes(makes))));
        let job = Job::of(request("words").with(|pass| pass.sampler = sampler)).unwrap();
        let mut run = run(&Toy::new(), job);
        let error = run.find_map(Result::err).unwrap();
        assert!(run.next().is_none(), "nothing comes after an error");
        assert!(run.images().is_err());
        error
    };
    let wide = first_error(|x| Latent(x.0.repeat(&[1, 1, 1, 2])));
    let Error::Step { step: 1, steps: 5, source } = &wide else { panic!("{wide:?}") };
    let samplers::Error::Shape { sampler, expected, found } = source else { panic!("{source:?}") };
    assert_eq!((sampler.as_str(), expected, found), ("outsider", &[1, 3, 4, 8], &[1, 3, 4, 16]));
    for makes in [|x: Latent| Latent(x.0 * f32::NAN), |x: Latent| Latent(x.0 * f32::INFINITY)] {
        let error = first_error(makes);
        assert!(matches!(error, Error::NotFinite { stage: Stage::Step(1) }), "{error:?}");
    }
}
