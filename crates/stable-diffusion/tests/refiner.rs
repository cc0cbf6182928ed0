//! A refiner that takes over within a pass, against diffusers' networks under k-diffusion's samplers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::values;
use diffusion_engine::{
    Cancel, Encodings, Error, Hires, HiresSize, Image, Job, Model, Models, RefinedPasses, Refiner, Run, Txt2Img, Which,
    start, start_with,
};
use fixtures::{Golden, deviation, psnr, std};
use samplers::Registry;

use tiny::{model, request};

/// The models of a job, and how often each was asked for.
struct Both {
    models: [(Which, Arc<dyn Model>); 2],
    brought: AtomicUsize,
}

impl Both {
    fn of(first: &Arc<dyn Model>, other: &Arc<dyn Model>) -> Arc<Self> {
        let models = [(Which::First, first.clone()), (Which::Refiner, other.clone())];
        Arc::new(Self { models, brought: 0.into() })
    }
}

impl Models for Both {
    fn model(&self, which: Which, _: usize) -> Result<Arc<dyn Model>, Error> {
        self.brought.fetch_add(1, Ordering::Relaxed);
        let at = usize::from(which != Which::First);
        Ok(self.models[at].1.clone())
    }

    fn encodings(&self, _: Which, _: usize) -> Arc<Encodings> {
        Arc::default()
    }
}

fn refined(request: Txt2Img, switch_at: f64) -> Txt2Img {
    let refiner = Refiner { name: "other".into(), switch_at, passes: RefinedPasses::default() };
    Txt2Img { refiner: Some(refiner), ..request }
}

fn drawn(models: Arc<Both>, request: Txt2Img) -> Run {
    let mut run = start_with(models, Job::of(request).unwrap(), Cancel::default()).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

/// What `image` rounds to bytes, back in -1 to 1.
fn pixels(image: &Image) -> Vec<f32> {
    image.pixels.iter().map(|byte| f32::from(*byte) / 127.5 - 1.0).collect()
}

#[test]
fn a_refiner_goes_on_with_the_latent_as_the_references_do() {
    let golden = Golden::open("sd-refiner/takeover.safetensors");
    let (base, refiner) = (model("sd-xl"), model("sd-refiner"));
    for (sampler, switch_at) in [("euler", 0.5), ("heun", 0.3)] {
        let sampler_entry = Registry::builtin().sampler(sampler).unwrap();
        let request = refined(request("sd-xl"), switch_at).with(|pass| pass.sampler = sampler_entry);
        let run = drawn(Both::of(&base, &refiner), request);
        let expected = golden.floats(&format!("{sampler}.latent"));
        let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
        assert!(worst <= 1e-3, "{sampler}: the latent is {worst:.2e} of its standard deviation off");
        if sampler == "euler" {
            let db = psnr(&values(&run.pixels().unwrap()), &golden.floats("image"));
            assert!(db >= 45.0, "the picture is {db:.1} dB from the reference's");
        }
    }
}

#[test]
fn a_model_that_is_its_own_refiner_draws_what_it_draws_alone() {
    let sd = model("sd-1");
    for id in ["heun", "dpmpp_2m", "euler_ancestral"] {
        let plain = request("sd-1").with(|pass| pass.sampler = Registry::builtin().sampler(id).unwrap());
        let hires = Hires { steps: Some(3), ..Hires::of(HiresSize::Scale(1.5)) };
        for plain in [plain.clone(), Txt2Img { hires: Some(hires), ..plain }] {
            let mut alone =
                start(sd.clone(), Job::of(plain.clone()).unwrap(), Arc::default(), Cancel::default()).unwrap();
            alone.by_ref().try_for_each(|event| event.map(drop)).unwrap();
            let both = refined(plain, 0.4);
            let run = drawn(Both::of(&sd, &sd), both.clone());
            assert_eq!(values(&run.latent().0), values(&alone.latent().0), "{id}");
            let text = run.image().unwrap().infotext;
            assert!(text.contains("Refiner: other, Refiner switch at: 0.4"), "{text}");
            assert_eq!(pixels(&run.image().unwrap()), pixels(&alone.image().unwrap()));
        }
    }
}

#[test]
fn a_refiner_is_brought_where_it_is_its_turn_and_not_before() {
    let (base, other) = (model("sd-1"), model("sd-2"));
    let brought = |switch_at: f64, passes: RefinedPasses, second: bool| {
        let models = Both::of(&base, &other);
        let mut request = refined(request("sd-1").steps(3), switch_at);
        request.refiner.as_mut().unwrap().passes = passes;
        request.hires = second.then(|| Hires { steps: Some(2), ..Hires::of(HiresSize::Scale(1.0)) });
        let run = drawn(models.clone(), request);
        (models.brought.load(Ordering::Relaxed), values(&run.latent().0))
    };
    let (alone, plain) = brought(1.0, RefinedPasses::Second, false);
    let (once, refined) = brought(0.5, RefinedPasses::Second, false);
    assert_eq!((alone, once), (1, 2));
    assert_ne!(plain, refined);
    // of two passes the first begins with its own model, the second too, and each may end with the refiner
    assert_eq!(brought(0.5, RefinedPasses::Second, true).0, 2);
    assert_eq!(brought(0.5, RefinedPasses::First, true).0, 3);
    assert_eq!(brought(0.5, RefinedPasses::Both, true).0, 4);
    // from the first call on it is the refiner's alone
    assert_ne!(brought(0.0, RefinedPasses::Second, false).1, refined);
}

#[test]
fn a_refined_run_goes_on_from_any_snapshot() {
    let (base, other) = (model("sd-1"), model("sd-2"));
    for id in ["heun", "dpmpp_2m"] {
        let request = refined(request("sd-1").steps(4), 0.5);
        let request = request.with(|pass| pass.sampler = Registry::builtin().sampler(id).unwrap());
        let mut going = start_with(Both::of(&base, &other), Job::of(request).unwrap(), Cancel::default()).unwrap();
        let mut snapshots = vec![going.snapshot().unwrap()];
        while let Some(event) = going.next() {
            event.unwrap();
            snapshots.push(going.snapshot().unwrap());
        }
        let expected = going.image().unwrap();
        for snapshot in snapshots {
            let mut resumed = Run::resume_with(Both::of(&base, &other), snapshot, Cancel::default()).unwrap();
            resumed.by_ref().try_for_each(|event| event.map(drop)).unwrap();
            assert_eq!(resumed.image().unwrap(), expected, "{id}");
        }
    }
}

#[test]
fn a_job_that_asks_for_a_model_that_is_not_there_is_refused() {
    let job = Job::of(refined(request("sd-1"), 0.5)).unwrap();
    assert_eq!(job.models(), [Which::First, Which::Refiner]);
    let refused = start(model("sd-1"), job, Arc::default(), Cancel::default());
    assert!(matches!(refused, Err(Error::Request { what: "the refiner", .. })));
    let out_of_range = Job::of(refined(request("sd-1"), 1.5));
    assert!(matches!(out_of_range, Err(Error::Request { what: "where the refiner takes over", .. })));
}
