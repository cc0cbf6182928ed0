//! What a run makes of the prompt language, by a model that has no weights.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod toy;

use std::sync::{Arc, Mutex, atomic::Ordering};

use core_tensor::{Latent, Tensor, values};
use diffusion_engine::{
    Around, Call, Cancel, Catalog, Emphasis, Error, HookError, Hooks, Job, Model, Moment, Pass, PerStep, Place,
    PromptFault, Run, Site, Size, Txt2Img, Wrap, parse, start,
};
use samplers::{Denoised, Denoiser, Registry};

use crate::toy::{Toy, request};

/// Writes down each call of the network: its prompt, and whether that is a negative one.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(usize, bool)>>>);

impl Hooks for Calls {
    fn after(&self, at: Site, call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        if at == Site::block("network", "blocks", 0) {
            let call = call.ok_or("no call")?;
            self.0.lock().unwrap().push((call.prompt, call.negative));
        }
        Ok(x)
    }
}

impl Wrap for Calls {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

impl Calls {
    /// Each call by the length of its prompt, negative where that is a negative one.
    fn lengths(&self, run: &Run) -> Vec<i64> {
        let length = |&(prompt, negative): &(usize, bool)| {
            let length = run.prompts()[prompt].ids[0].1[0] as i64;
            if negative { -length } else { length }
        };
        self.0.lock().unwrap().iter().map(length).collect()
    }
}

fn run(model: &Arc<Toy>, job: Job) -> Run {
    start(model.clone() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).unwrap()
}

fn finished(mut run: Run) -> Run {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

fn guided(prompt: &str, negative: &str, cfg: f32) -> Txt2Img {
    request(prompt).with(|pass| (pass.negative, pass.cfg) = (negative.into(), cfg.into()))
}

fn sampled(prompt: &str, sampler: &str) -> Txt2Img {
    let registry = Registry::builtin();
    let sampler = registry.samplers().iter().find(|s| s.names().any(|name| name == sampler)).unwrap().clone();
    request(prompt).with(|pass| pass.sampler = sampler)
}

/// The lengths of the prompts that a request's calls are made under.
fn lengths(request: Txt2Img) -> Vec<i64> {
    let calls = Calls::default();
    let run = finished(run(&Toy::new(), Job::of(request).unwrap().with(Arc::new(calls.clone()))));
    calls.lengths(&run)
}

#[test]
fn words_change_between_the_steps_and_each_prompt_is_encoded_once() {
    // As in A1111 and Forge, the first words are for one step more, as calls are counted from 0.
    assert_eq!(lengths(request("[a:bb:2]").steps(5)), [1, 1, 1, 2, 2]);
    assert_eq!(lengths(request("[a:bb:0.5]").steps(6)), [1, 1, 1, 1, 2, 2]);
    assert_eq!(lengths(request("[a|bb]").steps(5)), [1, 1, 2, 1, 2]);
    assert_eq!(lengths(request("[a|bb|]").steps(5)), [1, 1, 2, 0, 1]);
    assert_eq!(lengths(request("a bird # [a|b]").steps(2)), [6, 6]);
    let model = Toy::new();
    let drawn = finished(run(&model, Job::of(request("[a|bb]")).unwrap()));
    assert_eq!((model.encoded.load(Ordering::Relaxed), drawn.prompts().len()), (2, 2));
}

#[test]
fn each_prompt_is_encoded_once_for_every_picture_and_both_passes() {
    let model = Toy::new();
    let job = Job::of(Txt2Img { batch: 3, ..guided("a", "b", 2.0) }).unwrap().then(1.0, |_| ()).unwrap();
    finished(run(&model, job));
    assert_eq!(model.encoded.load(Ordering::Relaxed), 2);
}

#[test]
fn a_negative_prompt_changes_by_itself() {
    assert_eq!(lengths(guided("[a|bb]", "[aaa:bbbb:1]", 2.0).steps(4)), [1, -3, 1, -3, 2, -4, 1, -4]);
    // one that says the same as the positive one is still the negative one
    assert_eq!(lengths(guided("a", "a", 2.0).steps(1)), [1, -1]);
}

#[test]
fn samplers_of_two_calls_a_step_change_words_in_its_midst_as_forge_has_them() {
    let with = |id: &str, prompt: &str| lengths(sampled(prompt, id).steps(4));
    // eight calls are expected, of which the last step saves one
    assert_eq!(with("heun", "[a:bb:0.5]"), [1, 1, 1, 1, 1, 2, 2]);
    assert_eq!(with("heun", "[a:bb:2]"), [1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(with("dpm_2", "[a|bb]"), [1, 1, 2, 1, 2, 1, 2]);
    assert_eq!(with("heunpp2", "[a:bb:0.5]"), [1, 1, 1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn a_second_pass_goes_on_with_the_times_of_the_first() {
    let calls = Calls::default();
    let job = Job::of(request("[a:bb:1.5] [ccc:dddd:6]").steps(4)).unwrap().then(1.0, |_| ()).unwrap();
    let model = Toy::new();
    let mut run = run(&model, job.with(Arc::new(calls.clone())));
    let mut seen = Vec::new();
    while let Some(event) = run.next() {
        event.unwrap();
        seen.extend(calls.lengths(&run));
        calls.0.lock().unwrap().clear();
    }
    assert_eq!(seen, [5, 5, 5, 5, 5, 5, 5, 7]);
}

#[test]
fn several_prompts_at_once_add_up_what_each_adds_to_the_negative_one() {
    let noise = {
        let plain = finished(run(&Toy::new(), Job::of(request("aaaa").steps(1)).unwrap()));
        values(&plain.latent().0)[0] - 0.04
    };
    let drawn = |prompt: &str, cfg: f32| {
        let request = guided(prompt, "aa", cfg).steps(1);
        values(&finished(run(&Toy::new(), Job::of(request).unwrap())).latent().0)[0] - noise
    };
    let expect = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    let (negative, four, eight) = (0.02, 0.04, 0.08);
    expect(drawn("aaaa ANDaa", 1.0), 0.10); // no word of its own
    expect(drawn("aaaa AND aaaaaaa", 1.0), four + eight - negative);
    expect(drawn("aaaa AND aaaaaaa :-0.5", 1.0), four - 0.5 * (eight - negative));
    expect(drawn("aaaa AND aaaaaaa :0.5", 3.0), negative + 3.0 * (four - negative + 0.5 * (eight - negative)));
    expect(drawn("aaaa :2", 1.0), negative + 2.0 * (four - negative));
    // which takes one call for each
    assert_eq!(lengths(guided("a AND [b:cc:1]", "bb", 1.0).steps(3)), [1, 2, -2, 1, 2, -2, 1, 3, -2]);
}

/// Leaves the negative prompt out in odd calls, and changes nothing else.
struct Sparing(Place);

impl Wrap for Sparing {
    fn wants_negative(&self, _: &Pass, at: &Moment) -> bool {
        at.call.is_multiple_of(2)
    }

    fn place(&self) -> Place {
        self.0
    }

    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, Error> {
        Ok(match self.0 {
            Place::Guidance => Box::new(Positive(inner)),
            Place::Inside | Place::Outside => inner,
        })
    }
}

struct Positive(Box<dyn Denoiser>);

impl Denoiser for Positive {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, samplers::Error> {
        self.0.denoise(x, sigma)
    }
}

#[test]
fn the_negative_prompt_is_asked_only_where_it_is_wanted() {
    let spared = |request: Txt2Img, place| {
        let calls = Calls::default();
        let job = Job::of(request).unwrap().with(Arc::new(Sparing(place))).with(Arc::new(calls.clone()));
        let run = finished(run(&Toy::new(), job));
        calls.lengths(&run)
    };
    let guided = |prompt: &str| guided(prompt, "bb", 2.0).steps(3);
    for place in [Place::Inside, Place::Guidance, Place::Outside] {
        assert_eq!(spared(guided("a"), place), [1, -2, 1, 1, -2], "{place:?}");
    }
    assert_eq!(spared(guided("a AND b"), Place::Outside), [1, 2, -2, 1, 2, -2, 1, 2, -2]);
    let sampler = sampled("", "euler_cfg_pp").pass.sampler;
    assert_eq!(spared(guided("a").with(|pass| pass.sampler = sampler), Place::Outside), [1, -2, 1, -2, 1, -2]);
    assert_eq!(lengths(guided("a").with(|pass| pass.cfg = 1.0.into())), [1, 1, 1]);
}

#[test]
fn guidance_is_that_of_the_step_in_all_of_its_calls_and_a_step_at_1_asks_nothing_of_the_negative_prompt() {
    let by_step = |cfg: &str, sampler: &str, steps: usize| {
        let sampler = sampled("", sampler).pass.sampler;
        lengths(
            guided("a", "bb", 1.0).steps(steps).with(|pass| (pass.cfg, pass.sampler) = (cfg.parse().unwrap(), sampler)),
        )
    };
    assert_eq!(by_step("[2, 1, 3]", "euler", 4), [1, -2, 1, 1, -2, 1, -2]);
    assert_eq!(by_step("3..1", "euler", 3), [1, -2, 1, -2, 1]);
    assert_eq!(by_step("1..3 cosine", "euler", 3), [1, 1, -2, 1, -2]);
    assert_eq!(by_step("[1, 1]", "euler", 3), [1, 1, 1]);
    // two calls in each step but the last
    assert_eq!(by_step("[2, 1, 3]", "heun", 3), [1, -2, 1, -2, 1, 1, 1, -2]);
    // a sampler that needs the answer has it
    assert_eq!(by_step("[2, 1]", "euler_cfg_pp", 2), [1, -2, 1, -2]);
    // the last step ends at what the model sees: `n + cfg · (p - n)`, by the last step's `cfg` alone
    let drawn = |cfg: &str| {
        let request = guided("aaaa", "bb", 1.0).steps(3).with(|pass| pass.cfg = cfg.parse().unwrap());
        values(&finished(run(&Toy::new(), Job::of(request).unwrap())).latent().0)
    };
    assert_eq!(drawn("[3, 2, 4]"), drawn("[3, 2, 4, 9]"));
    assert_eq!(drawn("5..1"), drawn("[5, 3, 1]"));
    assert_ne!(drawn("[3, 2, 4]"), drawn("[2, 2, 4]"));
    for wrong in [vec![0.5], vec![2.0, f32::NAN], vec![-1.0], vec![], vec![2.0; 1001]] {
        let request = guided("a", "b", 1.0).with(|pass| pass.cfg = PerStep::Each(wrong));
        assert!(matches!(Job::of(request), Err(Error::Request { what: "cfg", .. })));
    }
}

#[test]
fn a_run_goes_on_from_a_snapshot_with_the_same_words() {
    let model = Toy::new();
    for id in ["heun", "euler_ancestral", "heunpp2"] {
        let request =
            sampled("[a|bbbb|cc] AND [dd:eee:0.4] :0.3", id).steps(6).with(|pass| pass.cfg = "2..1".parse().unwrap());
        let job = Job::of(request).unwrap().then(0.7, |_| ()).unwrap();
        let mut going = run(&model, job);
        let mut snapshots = vec![going.snapshot().unwrap()];
        while let Some(event) = going.next() {
            event.unwrap();
            snapshots.push(going.snapshot().unwrap());
        }
        for snapshot in snapshots {
            let resumed = Run::resume(model.clone(), snapshot, Arc::default(), Cancel::default());
            assert_eq!(values(&finished(resumed).latent().0), values(&going.latent().0), "{id}");
        }
    }
}

#[test]
fn weights_reach_the_model_as_pieces_or_as_words() {
    let drawn = |emphasis| {
        let prompt = "a (cat:1.2) BREAK \\(b\\)";
        lengths(request(prompt).steps(1).with(|pass| pass.emphasis = emphasis))[0]
    };
    assert_eq!(drawn(Emphasis::Original), "a cat (b)".len() as i64);
    assert_eq!(drawn(Emphasis::None), "a (cat:1.2) BREAK \\(b\\)".len() as i64);
}

#[test]
fn a_prompt_that_can_not_be_drawn_is_refused_before_the_run() {
    let refused = |prompt: &str, negative: &str| {
        let job = match Job::of(guided(prompt, negative, 2.0)) {
            Ok(job) => job,
            Err(error) => return error,
        };
        start(Toy::new() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).err().unwrap()
    };
    let network = refused("a <lora:b:1>", "");
    assert!(
        matches!(network, Error::Prompt { negative: false, source: PromptFault::ExtraNetwork { .. } }),
        "{network:?}"
    );
    assert!(matches!(refused("a", "<hypernet:b:1>"), Error::Prompt { negative: true, .. }));
    let many = "[a|b][a|b|c][a|b|c|d|e][a|b|c|d|e|f|g][a|b|c|d|e|f|g|h|i|j|k]";
    let job = Job::of(request(many).steps(1000)).unwrap();
    let many = start(Toy::new() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).err().unwrap();
    assert!(matches!(many, Error::Prompt { source: PromptFault::Editions { .. }, .. }), "{many:?}");
}

#[test]
fn each_picture_makes_its_own_choices_and_says_what_they_came_to() {
    let wildcards = |name: &str| Ok((name == "colour").then(|| "red\ngreen\nblue".to_owned()));
    let template = "a {big|small|tiny} __colour__ {cat|dog|owl}";
    let size = Size { width: 16, height: 16 };
    let batch = Txt2Img { batch: 3, ..guided(template, "{x|y}", 2.0).size(size) };
    let pictures = batch.clone().chosen(&wildcards).unwrap();
    assert_eq!(pictures.iter().map(|one| (one.seed, one.batch)).collect::<Vec<_>>(), [(3, 1), (4, 1), (5, 1)]);
    let prompts: Vec<_> = pictures.iter().map(|one| one.pass.prompt.clone()).collect();
    assert!(prompts[0] != prompts[1] || prompts[1] != prompts[2], "{prompts:?}");
    for (i, one) in pictures.into_iter().enumerate() {
        // alone it is the same
        let alone = Txt2Img { batch: 1, seed: one.seed, ..batch.clone() }.chosen(&wildcards).unwrap();
        assert_eq!(alone, std::slice::from_ref(&one));
        // its text says both, and comes to the same request
        let run = finished(run(&Toy::new(), Job::of(one.clone()).unwrap()));
        let text = run.image().unwrap().infotext;
        assert!(text.starts_with(&prompts[i]) && text.contains("Template: "), "{text}");
        assert_eq!(parse(&text, &[]).request(&Catalog::builtin()).unwrap(), one, "{text}");
    }
    let plain = request("a {plain} cat");
    assert_eq!(plain.clone().chosen(&wildcards).unwrap(), [plain]);
    let missing = request("a __thing__").chosen(&wildcards);
    assert!(matches!(missing, Err(Error::Prompt { negative: false, source: PromptFault::NoWildcard { .. } })));
}
