//! A second pass of another size: how a latent becomes larger, and what a run does around it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod toy;

use std::sync::Arc;

use core_tensor::{Device, Latent, Tensor, tensor, values};
use diffusion_engine::{
    Cancel, Error, Event, Filter, Hires, HiresSize, Inside, Interpolation, Job, Model, PixelUpscaler, Run, Size,
    Txt2Img, Upscaler, start,
};
use fixtures::{Golden, deviation};
use samplers::Registry;

use crate::toy::{Toy, request};

fn run(model: &Arc<Toy>, job: Job) -> Run {
    start(model.clone() as Arc<dyn Model>, job, Arc::default(), Cancel::default()).unwrap()
}

fn finished(mut run: Run) -> Run {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

/// The small request with a second pass of twice its size.
fn twice(change: impl FnOnce(&mut Hires)) -> Txt2Img {
    let mut hires = Hires::of(HiresSize::Sides { width: 16, height: 8 });
    change(&mut hires);
    Txt2Img { hires: Some(hires), ..request("words") }
}

#[test]
fn a_latent_of_another_size_is_that_of_torch() {
    let golden = Golden::open("interpolation.safetensors");
    let shape: [usize; 4] = golden.shape("x").try_into().unwrap();
    let x = Latent(tensor(golden.floats("x"), shape, &Device::flex()));
    let mut compared = 0;
    for name in golden.names().iter().filter(|name| *name != "x") {
        let (mode, _) = name.split_once('.').unwrap();
        let Ok(Upscaler::Latent(interpolation)) = mode.parse() else { panic!("{mode} is no upscaler") };
        let [_, _, height, width]: [usize; 4] = golden.shape(name).try_into().unwrap();
        let found = interpolation.resized(&x, [height, width]).unwrap();
        assert_eq!(found.0.dims().to_vec(), golden.shape(name));
        let off = deviation(&values(&found.0), &golden.floats(name));
        assert!(off < 1e-5, "{name} is {off:.1e} off");
        compared += 1;
    }
    assert_eq!(compared, 48);
}

#[test]
fn every_upscaler_is_called_by_its_id_and_by_the_web_uis_name() {
    for id in Upscaler::IDS {
        let upscaler: Upscaler = id.parse().unwrap();
        assert_eq!(upscaler.id(), id);
        assert_eq!(upscaler.label().to_uppercase().parse(), Ok(upscaler));
    }
    assert_eq!("lanczos".parse(), Ok(Upscaler::Picture(Filter::Lanczos)));
    assert_eq!("Latent (nearest-exact)".parse(), Ok(Upscaler::Latent(Interpolation::NearestExact)));
    assert!("latent-nearest-inexact".parse::<Upscaler>().is_err());
}

#[test]
fn a_second_pass_takes_all_its_steps_and_makes_a_larger_picture() {
    let model = Toy::new();
    for (strength, steps) in [(0.5, None), (0.05, Some(3)), (1.0, Some(7))] {
        let job = Job::of(twice(|hires| (hires.strength, hires.steps) = (strength, steps))).unwrap();
        let mut run = run(&model, job);
        let events: Vec<Event> = run.by_ref().map(Result::unwrap).collect();
        let taken = events.iter().filter(|event| matches!(event, Event::Step(_))).count();
        assert_eq!(taken, 5 + steps.unwrap_or(5), "{strength}");
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Encoded { .. })).count(), 2);
        let image = run.image().unwrap();
        assert_eq!((image.width, image.height), (16, 8));
    }
}

#[test]
fn its_noise_is_that_of_the_seed_at_its_own_size_for_each_picture() {
    let model = Toy::new();
    let noise = |request: Txt2Img| finished(run(&model, Job::of(request).unwrap())).noise().clone();
    let second = noise(twice(|_| ()));
    let alone = noise(request("words").size(Size { width: 16, height: 8 }));
    assert_eq!(values(&second.0), values(&alone.0));
    // and a picture of a batch is the one that is made alone, also with steps that draw
    let sampler = Registry::builtin().sampler("euler_ancestral").unwrap();
    let request = twice(|_| ()).with(|pass| pass.sampler = sampler);
    let batch = finished(run(&model, Job::of(Txt2Img { batch: 3, ..request.clone() }).unwrap())).latent().0.clone();
    for picture in 0..3 {
        let alone = finished(run(&model, Job::of(request.picture(picture)).unwrap())).latent().0.clone();
        assert_eq!(values(&batch.clone().narrow(0, picture, 1)), values(&alone), "{picture}");
    }
}

#[test]
fn a_run_of_two_sizes_goes_on_from_any_snapshot() {
    let model = Toy::new();
    for id in ["euler", "heun", "dpmpp_2m_sde", "euler_ancestral", "dpmpp_sde"] {
        let sampler = Registry::builtin().sampler(id).unwrap();
        let own = |hires: &mut Hires| (hires.prompt, hires.sampler) = ("[a:many:1.5] words".into(), Some(sampler));
        let mut going = run(&model, Job::of(Txt2Img { batch: 2, ..twice(own) }).unwrap());
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
fn a_second_pass_has_the_firsts_settings_but_for_its_own() {
    let first = twice(|hires| {
        hires.prompt = "others".into();
        hires.cfg = Some(3.0.into());
        hires.schedule = Some(Registry::builtin().schedule("karras").unwrap());
    });
    let eta = |pass: &mut diffusion_engine::Pass| {
        pass.sampler = Registry::builtin().sampler("euler_ancestral").unwrap();
        pass.options.set("eta", samplers::Value::Number(0.5));
        pass.negative = "none".into();
    };
    let job = Job::of(first.with(eta)).unwrap();
    let [a, b] = job.passes() else { panic!("{job:?}") };
    assert_eq!((&*a.prompt, &*b.prompt, &*b.negative), ("words", "others", "none"));
    assert_eq!((b.cfg.clone(), &*b.schedule.id, &a.options), (3.0.into(), "karras", &b.options));
    // of another sampler's options those are left that it has
    let other = twice(|hires| hires.sampler = Some(samplers::euler())).with(eta);
    assert!(Job::of(other).unwrap().passes()[1].options.iter().next().is_none());
}

#[test]
fn what_is_wrong_with_a_second_pass_is_told_before_anything_is_drawn() {
    let refused = |change: fn(&mut Hires)| match Job::of(twice(change)) {
        Err(Error::Request { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(|hires| hires.strength = 0.0), "the strength of a pass");
    assert_eq!(refused(|hires| (hires.strength, hires.steps) = (0.001, Some(2))), "the strength of a pass");
    assert_eq!(refused(|hires| hires.size = HiresSize::Scale(0.1)), "the scale of the second pass");
    assert_eq!(refused(|hires| hires.size = HiresSize::Scale(1.1)), "the size of the second pass");
    assert_eq!(refused(|hires| hires.cfg = Some(0.5.into())), "cfg");
    assert!(Job::of(twice(|hires| hires.steps = Some(0))).is_err());
    assert!(matches!(Job::of(twice(|hires| hires.prompt = "<hypernet:a:1>".into())), Err(Error::Prompt { .. })));
    // what only the model knows, when the run begins
    let odd = Job::of(twice(|hires| hires.size = HiresSize::Sides { width: 18, height: 8 })).unwrap();
    let start = start(Toy::new() as Arc<dyn Model>, odd, Arc::default(), Cancel::default());
    assert!(matches!(start, Err(Error::Request { what: "width", .. })));
}

#[test]
fn a_second_pass_stops_when_it_is_told_to() {
    let model = Toy::new();
    let mut run = run(&model, Job::of(twice(|_| ())).unwrap());
    // the words, five steps, and the words of the second pass
    run.by_ref().take(7).try_for_each(|event| event.map(drop)).unwrap();
    run.cancel().ask();
    assert!(matches!(run.next(), Some(Err(Error::Stopped { step: 0, steps: 5 }))));
    assert!(run.image().is_err());
}

/// Repeats each pixel, and counts how often.
struct Doubled(std::sync::atomic::AtomicUsize);

impl PixelUpscaler for Doubled {
    fn name(&self) -> &str {
        "doubled"
    }

    fn factor(&self) -> usize {
        2
    }

    fn bytes(&self) -> u64 {
        7
    }

    fn working_bytes(&self, from: Size) -> u64 {
        (from.width * from.height) as u64
    }

    fn upscale(&self, picture: Tensor<4>, _: &Inside) -> Result<Tensor<4>, Error> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let [b, c, h, w] = picture.dims();
        assert!(values(&picture).iter().all(|value| (0.0..=1.0).contains(value)));
        let tall = picture.reshape([b, c, h, 1, w, 1]).expand([b, c, h, 2, w, 2]);
        Ok(tall.reshape([b, c, 2 * h, 2 * w]) * 1.5 - 0.25)
    }
}

#[test]
fn a_second_pass_starts_from_pixels_that_a_network_made_as_often_as_it_takes() {
    let network = Arc::new(Doubled(0.into()));
    let upscaled = |width, height| {
        let job = Job::of(Txt2Img {
            batch: 2,
            ..twice(|hires| {
                hires.size = HiresSize::Sides { width, height };
                hires.upscaler = Upscaler::Network(network.clone());
            })
        })
        .unwrap();
        let bytes = job.upscaling_bytes();
        assert_eq!(job.upscaler_bytes(), 7);
        let image = finished(run(&Toy::new(), job)).image().unwrap();
        let made = network.0.swap(0, std::sync::atomic::Ordering::Relaxed);
        ((image.width, image.height), made, bytes)
    };
    assert_eq!(upscaled(16, 8), ((16, 8), 2, 32));
    // of four times as large a picture it makes two of each, and of nothing larger none
    assert_eq!(upscaled(32, 16), ((32, 16), 4, 128));
    assert_eq!(upscaled(24, 8), ((24, 8), 4, 128));
    // and its name stands in the text
    let job = Job::of(twice(|hires| hires.upscaler = Upscaler::Network(network.clone()))).unwrap();
    assert!(finished(run(&Toy::new(), job)).image().unwrap().infotext.contains("Hires upscaler: doubled"));
}

#[test]
fn pixels_that_are_resized_are_those_of_the_first_pass() {
    let model = Toy::new();
    // At next to no strength the second pass keeps what it starts from.
    let drawn = |upscaler: &str| {
        let request = twice(|hires| {
            hires.upscaler = upscaler.parse().unwrap();
            (hires.strength, hires.steps) = (0.002, Some(1));
        });
        values(&finished(run(&model, Job::of(request).unwrap())).latent().0)
    };
    let first = finished(run(&model, Job::of(request("words")).unwrap())).latent().0.clone();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let (nearest, lanczos) = (drawn("nearest"), drawn("lanczos"));
    assert_ne!(nearest, lanczos);
    for found in [&nearest, &lanczos] {
        assert!((mean(found) - mean(&values(&first.clone().clamp(-1.0, 1.0)))).abs() < 0.02);
    }
}
