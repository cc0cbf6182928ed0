//! Several runs of one Stable Diffusion in miniature: side by side, interrupted, resumed.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{sync::mpsc::channel, thread};

use forge::{
    ComputeChoice, Config, Error, Event, Forge, Run, Size, Txt2Img, core_tensor::values, diffusion_engine,
    samplers::Registry,
};

/// A golden case, which computes in f32.
fn config(case: &str) -> Config {
    let mut config = Config::read(&fixtures::path(&format!("golden/{case}/case.toml"))).unwrap();
    config.device.compute = ComputeChoice::F32;
    config
}

fn request(case: &str, sampler: &str, steps: usize) -> Txt2Img {
    let request = config(case).request(|| 0).unwrap().steps(steps).size(Size { width: 64, height: 64 });
    request.with(|pass| pass.sampler = Registry::builtin().sampler(sampler).unwrap())
}

fn pixels(mut run: Run) -> Vec<f32> {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    values(&run.pixels().unwrap())
}

#[test]
fn a_run_goes_on_after_any_step_as_if_it_had_not_been_away() {
    let cases = [
        ("sd-1", "euler_ancestral"),
        ("sd-1", "dpmpp_2m"),
        ("sd-2", "dpmpp_3m_sde"),
        ("sd-2", "ddim"),
        ("sd-xl", "unipc"),
        ("sd-xl", "heun"),
        ("sd-refiner", "lms"),
        ("sd-inpainting", "restart"),
    ];
    for (case, sampler) in cases {
        let forge = Forge::load(&config(case)).unwrap();
        let mut run = forge.txt2img(request(case, sampler, 4)).unwrap();
        let mut snapshots = Vec::new();
        while let Some(event) = run.next() {
            if let Event::Step(step) = event.unwrap()
                && step.step <= 3
            {
                snapshots.push(run.snapshot().unwrap());
            }
        }
        assert_eq!(snapshots.len(), 3, "{case} {sampler}");
        let whole = values(&run.pixels().unwrap());
        for snapshot in snapshots {
            let step = snapshot.step();
            assert!(pixels(forge.resume(snapshot).unwrap()) == whole, "{case} {sampler} after step {step}");
        }
    }
}

#[test]
fn two_jobs_of_one_model_on_two_threads_draw_what_each_draws_alone() {
    for case in ["sd-1", "sd-xl"] {
        let forge = Forge::load(&config(case)).unwrap();
        let requests = || {
            let one = request(case, "euler", 3);
            let other = request(case, "dpmpp_sde", 4).seed(9).size(Size { width: 72, height: 64 });
            [one, other.with(|pass| (pass.prompt, pass.cfg) = ("blurry, low quality".into(), 2.0.into()))]
        };
        let expected = requests().map(|request| pixels(forge.txt2img(request).unwrap()));
        let drawn = requests().map(|request| {
            let forge = forge.clone();
            thread::spawn(move || pixels(forge.txt2img(request).unwrap()))
        });
        assert!(drawn.map(|drawn| drawn.join().unwrap()) == expected, "{case}");
    }
}

#[test]
fn one_of_two_threads_is_stopped_and_the_other_draws_on() {
    let forge = Forge::load(&config("sd-1")).unwrap();
    let expected = pixels(forge.txt2img(request("sd-1", "euler", 3)).unwrap());
    let mut endless = forge.txt2img(request("sd-1", "euler", 1000)).unwrap();
    let (begun, first) = channel();
    let cancel = endless.cancel();
    let stopped = thread::spawn(move || {
        endless.by_ref().take(2).for_each(|event| drop(event.unwrap()));
        begun.send(()).unwrap();
        endless.find_map(Result::err)
    });
    first.recv().unwrap();
    let other = forge.clone();
    let drawn = thread::spawn(move || pixels(other.txt2img(request("sd-1", "euler", 3)).unwrap()));
    cancel.ask();
    let error = stopped.join().unwrap().unwrap();
    assert!(matches!(error, Error::Run(diffusion_engine::Error::Stopped { steps: 1000, .. })), "{error:?}");
    assert!(drawn.join().unwrap() == expected);
}
