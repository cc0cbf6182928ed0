//! What a run takes is no more than what its plan said: `memory` is a promise.

mod held;
mod tiny;

use std::sync::PoisonError;

use forge::{
    ComputeChoice, Config, Enlarger, Error, Forge, HiresConfig, HiresUpscaler, ThreadCount, Threads,
    diffusion_engine::{Cancel, Filter, Picture, Upscaler},
    memory::{Bytes, Error::TooLittle},
    samplers::Value,
};
use serde_json::Value as Json;

use crate::{
    held::{ALONE, ENOUGH, HEAP, drawn, from_picture, keep_to_their_plans, of, planned_and_taken, sd},
    tiny::{Tensors, Tiny},
};

/// What the system may round up.
const SLACK: f64 = 0.05;

/// tiny-dev with a T5 that has as many heads as one may have.
fn many_heads() -> Tiny {
    let tiny = Tiny::of("tiny-dev");
    let mut t5 = Tensors::of(&tiny.role("t5"));
    for block in 0..2 {
        let name = |name: &str| format!("encoder.block.{block}.layer.0.SelfAttention.{name}.weight");
        for narrow in ["q", "k", "v"] {
            t5 = t5.zeros(&name(narrow), "F32", &[128, 32]);
        }
        t5 = t5.zeros(&name("o"), "F32", &[32, 128]);
        if block == 0 {
            t5 = t5.zeros(&name("relative_attention_bias"), "F32", &[32, 128]);
        }
    }
    let file = tiny.write("t5.safetensors", t5.bytes());
    tiny.with("t5", &file)
}

/// Large pictures, where the decoder counts; large batches; long prompts, where T5 does; other tests have longer ones.
const SMALL: [[usize; 3]; 5] = [[64, 1, 24], [64, 8, 24], [128, 2, 77], [256, 1, 24], [64, 1, 512]];

/// Runs a model in each of these sizes, and in each number format.
fn small_runs_keep_to_their_plans(config: &Config) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Where the processor has no bf16, both are one.
    let choices = [ComputeChoice::F32, ComputeChoice::Auto];
    let choices = &choices[..if kernels::Isa::best().has_bf16() { 2 } else { 1 }];
    for (size, compute) in SMALL.iter().flat_map(|&size| choices.iter().map(move |compute| (size, *compute))) {
        // given a request, when it is run under what its plan says is enough, then it is enough
        let [planned, taken] = planned_and_taken(&of(config, size, compute), &drawn);
        assert!(taken <= planned, "{compute} {size:?}: {taken} bytes, planned {planned}");
    }
}

#[test]
fn a_run_of_the_demo_takes_no_more_than_its_plan_says() {
    small_runs_keep_to_their_plans(&Config::read(&fixtures::path("../flux.toml")).unwrap());
}

#[test]
fn a_run_of_a_guided_model_takes_no_more_than_its_plan_says() {
    small_runs_keep_to_their_plans(&Tiny::of("tiny-dev").config());
}

#[test]
fn a_run_of_an_unguided_model_takes_no_more_than_its_plan_says() {
    small_runs_keep_to_their_plans(&Tiny::of("tiny-schnell").config());
}

#[test]
fn a_negative_prompt_is_in_the_plan_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tiny = Tiny::of("tiny-dev");
    let mut config = of(&tiny.config(), [64, 2, 1024], ComputeChoice::F32);
    (config.sampling.cfg, config.prompt.negative) = (3.0.into(), "a dog".into());
    let [planned, taken] = planned_and_taken(&config, &drawn);
    assert!(taken <= planned, "{taken} bytes, planned {planned}");
}

#[test]
fn long_prompts_of_t5_keep_to_their_plan() {
    let tiny = Tiny::of("tiny-dev");
    let long = |tokens| of(&tiny.config(), [64, 1, tokens], ComputeChoice::F32);
    keep_to_their_plans([("t5_length 2,048", long(2048), drawn), ("t5_length 4,096", long(4096), drawn)]);
}

#[test]
fn a_t5_of_as_many_heads_as_there_may_be_keeps_to_its_plan() {
    let heads = many_heads();
    keep_to_their_plans([("a T5 of 128 heads", of(&heads.config(), [64, 1, 1024], ComputeChoice::F32), drawn)]);
}

#[test]
fn batches_keep_to_their_plan() {
    let (tiny, mut sd) = (Tiny::of("tiny-dev"), sd("sd-1", 128));
    sd.image.batch = 4;
    keep_to_their_plans([
        ("a batch of Flux", of(&tiny.config(), [128, 4, 24], ComputeChoice::F32), drawn),
        ("a batch of Stable Diffusion", sd, drawn),
    ]);
}

#[test]
fn the_longest_prompt_keeps_to_its_plan() {
    let mut long = sd("sd-1", 64);
    long.prompt.positive = "a fox, ".repeat(9_000);
    keep_to_their_plans([("the longest prompt", long, drawn)]);
}

#[test]
fn two_passes_keep_to_their_plan() {
    let hires = |upscaler| {
        let mut config = sd("sd-1", 128);
        config.hires = HiresConfig { scale: Some(2.0), steps: Some(1), upscaler, ..config.hires };
        config
    };
    keep_to_their_plans([
        ("hires of latents", hires(HiresUpscaler::default()), drawn),
        ("hires of pixels", hires(HiresUpscaler::Plain(Upscaler::Picture(Filter::Lanczos))), drawn),
    ]);
}

#[test]
fn two_models_keep_to_their_plan() {
    let mut refined = sd("sd-1", 128);
    refined.refiner.checkpoint = Some(fixtures::path("golden/sd-2/model.safetensors"));
    refined.sampling.steps = 2;
    keep_to_their_plans([("a refiner", refined, drawn)]);
}

#[test]
fn what_methods_keep_is_in_the_plan() {
    let tiny = Tiny::of("tiny-dev");
    let mut cached = of(&tiny.config(), [128, 2, 24], ComputeChoice::F32);
    cached.sampling.steps = 2;
    let mut of_unet = sd("sd-1", 128);
    (of_unet.sampling.steps, of_unet.sampling.cfg, of_unet.image.batch) = (2, 3.0.into(), 2);
    let with = |config: &Config, key: &str, number: f64| {
        let mut config = config.clone();
        config.knobs.set(key, Value::Number(number));
        config
    };
    keep_to_their_plans([
        ("a first-block cache of Flux", with(&cached, "first_block", 0.001), drawn),
        ("TeaCache", with(&cached, "teacache", 0.001), drawn),
        ("a first-block cache of Stable Diffusion", with(&of_unet, "first_block", 0.001), drawn),
        ("self-attention guidance", with(&of_unet, "sag", 0.7), drawn),
    ]);
}

#[test]
fn pictures_from_pictures_keep_to_their_plan() {
    let tiny = Tiny::of("tiny-dev");
    keep_to_their_plans([
        ("img2img of Flux", of(&tiny.config(), [128, 1, 24], ComputeChoice::F32), from_picture),
        ("img2img of Stable Diffusion", sd("sd-1", 128), from_picture),
    ]);
}

#[test]
fn a_picture_is_made_larger_within_the_ceiling() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let picture = Picture { width: 640, height: 480, pixels: vec![128; 640 * 480 * 3], opacity: None };
    for (model, mib) in [("esrgan-x4.safetensors", 400), ("compact-x4.pth", 300), ("compact-x4.pth", 400)] {
        let mut config = Config::default();
        (config.device.memory, config.device.compute) = (Some(Bytes(mib << 20)), ComputeChoice::F32);
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let threads = Threads::start(ThreadCount::new(2).expect("two threads"));
        let path = fixtures::path(&format!("golden/upscale/{model}"));
        let enlarger = Enlarger::open(&path, &config, threads).expect(ENOUGH);
        let larger = enlarger.enlarge(&picture, None, &Cancel::default(), &|_, _| {}).expect(ENOUGH);
        let taken = (HEAP.peak_usage() - before) as u64;
        assert_eq!(larger.width, 2560);
        assert!(taken <= mib << 20, "{model}: {taken} bytes under {mib} MiB");
    }
}

#[test]
fn what_is_brought_to_another_size_is_in_the_plan() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (width, height) = (400, 400);
    let mut config = of(&Tiny::quick().config(), [64, 1, 16], ComputeChoice::F32);
    let threads = Threads::start(ThreadCount::new(2).expect("two threads"));
    let mut under = |memory: Option<u64>| {
        config.device.memory = memory.map(Bytes);
        let path = fixtures::path("golden/upscale/compact-x4.pth");
        Enlarger::open(&path, &config, threads.clone()).expect(ENOUGH)
    };
    for opacity in [None, Some((0..width * height).map(|i| (i % 251) as u8).collect::<Vec<_>>())] {
        for scale in [4.0, 0.1, 1.0, 2.0, 3.0] {
            let picture = Picture { width, height, pixels: vec![200; width * height * 3], opacity: opacity.clone() };
            let name = format!("{scale} with{} opacity", if opacity.is_some() { "" } else { "out" });
            // As it is, and under the least that does.
            let Err(Error::Memory(TooLittle { needed, .. })) = under(Some(1)).plan(&picture, Some(scale)) else {
                panic!("{name}: a byte is enough");
            };
            for enlarger in [under(None), under(Some(needed.0))] {
                let plan = enlarger.plan(&picture, Some(scale)).expect(ENOUGH);
                let weights: u64 = plan.parts.iter().map(|(part, _)| part.mapped.0).sum();
                let planned = plan.total().0 - weights;
                let before = HEAP.current_usage();
                HEAP.reset_peak_usage();
                enlarger.enlarge(&picture, Some(scale), &Cancel::default(), &|_, _| {}).expect(ENOUGH);
                let taken = (HEAP.peak_usage() - before) as u64;
                println!("{name}: {taken} of {planned}");

                assert!(taken <= planned && taken >= planned / 10 * 6, "{name}: {taken} of {planned}");
            }
        }
    }
}

/// Draws the smallest picture of a model.
fn draw(forge: &Forge, config: &Config) {
    let mut run = forge.start(drawn(config)).expect(ENOUGH);
    assert!(run.all(|step| step.is_ok()));
    run.images().expect(ENOUGH);
}

/// How much more is allocated after so many turns than after the third, in bytes.
fn left_by(turns: usize, turn: impl Fn()) -> i64 {
    (0..3).for_each(|_| turn());
    let first = HEAP.current_usage() as i64;
    (3..turns).for_each(|_| turn());
    HEAP.current_usage() as i64 - first
}

/// What a map or a list may grow by now and then, in bytes; a tiny model has many times more.
const GROWN: i64 = 256 << 10;

#[test]
fn one_run_after_the_other_leaves_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Tiny::quick();
    let config = config.config();
    let forge = Forge::load(&config).expect(ENOUGH);
    let left = left_by(100, || draw(&forge, &config));
    assert!(left <= GROWN, "{left} bytes");
}

#[test]
fn two_models_in_turn_leave_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (one, other) = (Tiny::quick(), Tiny::of("tiny-dev"));
    let (one, other) = (one.config(), of(&other.config(), [16, 1, 8], ComputeChoice::F32));
    let left = left_by(10, || {
        for config in [&one, &other, &one] {
            draw(&Forge::load(config).expect(ENOUGH), config);
        }
    });
    assert!(left <= GROWN, "{left} bytes");
}

/// What `forge plan` says in JSON.
fn plan(tiny: &Tiny, args: &[&str]) -> Json {
    let ran = tiny.forge(&[&["plan", "--config", "flux.toml", "--json"], args].concat()).done();
    ran.json().remove(0)
}

#[test]
fn the_command_plans_as_it_runs_and_loads_nothing_for_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tiny = Tiny::quick();
    let planned = plan(&tiny, &["--memory", "2 GiB"]);
    let ran = tiny.txt2img(&["--json", "--output", "a.png", "--memory", "2 GiB"]).done().json();
    assert_eq!(ran[0]["bytes"], planned["bytes"]);
    assert_eq!(
        (planned["ceiling"]["from"].as_str(), planned["ceiling"]["bytes"].as_u64()),
        (Some("memory"), Some(2 << 30))
    );
    // all parts and the largest stage are the whole
    let sum = |list: &str| planned[list].as_array().unwrap().iter().map(|it| it["bytes"].as_u64().unwrap());
    assert_eq!(planned["bytes"].as_u64(), Some(sum("parts").sum::<u64>() + sum("stages").max().unwrap()));
    // each stage that ends says what was planned of it
    let stage =
        |name: &str| planned["stages"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    let reports: Vec<_> = ran.iter().filter(|event| event["event"] == "memory").collect();
    assert_eq!(
        reports.iter().map(|it| it["stage"].as_str().unwrap()).collect::<Vec<_>>(),
        ["encode", "sample", "decode"]
    );
    for report in reports {
        assert_eq!(report["planned"], stage(report["stage"].as_str().unwrap())["total"], "{report}");
    }
    // a run that can't be is refused with what would do, and what does is enough
    let refused = tiny.forge(&["plan", "--config", "flux.toml", "--memory", "1"]).refused(3, &["the model needs"]);
    let (_, enough) = refused.err.split_once("memory = \"").unwrap();
    let enough = enough.split('"').next().unwrap();
    assert_eq!(plan(&tiny, &["--memory", enough])["parts"][0]["place"], "file");
    tiny.txt2img(&["--output", "b.png", "--memory", enough]).done();
}

/// Draws under the least memory of the plan of a request in which one stage counts.
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with(args: &[&str]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tiny = Tiny::of("tiny-schnell").set("sampling", "steps", 1);
    let refused = tiny.forge(&[&["plan", "--config", "flux.toml", "--threads", "2", "--memory", "1"], args].concat());
    let enough = refused.err.split('"').skip_while(|part| !part.ends_with("memory = ")).nth(1).expect("a hint");
    // when it is run under that
    let run = &["--json", "--output", "a-{index}.png", "--threads", "2", "--memory", enough][..];
    let ran = tiny.txt2img(&[run, args].concat()).done().json();
    // then the most that the process had is no more, but for what the system rounds up
    let last = ran.iter().rfind(|event| event["event"] == "memory").expect("reports");
    let (most, ceiling) =
        (last["process"].as_u64().expect("Linux counts it"), enough.parse::<Bytes>().expect(ENOUGH).0);
    assert!(most as f64 <= ceiling as f64 * (1.0 + SLACK), "{most} bytes under {ceiling}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with_a_long_prompt() {
    the_process_stays_under_its_ceiling_with(&["--t5-length", "4096", "--width", "64", "--height", "64"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with_a_batch() {
    the_process_stays_under_its_ceiling_with(&["--width", "256", "--height", "256", "--batch", "4"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with_a_large_picture() {
    the_process_stays_under_its_ceiling_with(&["--width", "768", "--height", "768"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with_two_passes() {
    the_process_stays_under_its_ceiling_with(&["--width", "256", "--height", "256", "--hires-scale", "2"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_under_its_ceiling_with_a_dump() {
    the_process_stays_under_its_ceiling_with(&["--width", "256", "--height", "256", "--dump", "all.safetensors"]);
}
