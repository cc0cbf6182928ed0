//! What a run takes is no more than what its plan said: `memory` is a promise.

mod tiny;

use std::sync::{Mutex, PoisonError};

use forge::{ComputeChoice, Config, Error, Forge, Job, memory::Bytes, samplers::Value};
use peak_alloc::PeakAlloc;

use crate::tiny::Tiny;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Why a run under its own plan succeeds.
const ENOUGH: &str = "what the plan says is enough";

/// The least memory that the plan of a config asks for.
fn planned(config: &Config) -> u64 {
    let mut config = config.clone();
    config.device.memory = Some(Bytes(1));
    let job = Job::of(config.request(|| 7).expect(ENOUGH)).expect(ENOUGH);
    match Forge::load(&config).expect("opening reads headers alone").plan(&job) {
        Err(Error::Memory(forge::memory::Error::TooLittle { needed, .. })) => needed.0,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a byte is enough"),
    }
}

/// The most that loading and running a config under this ceiling takes.
fn taken(config: &Config, ceiling: u64) -> u64 {
    let mut config = config.clone();
    config.device.memory = Some(Bytes(ceiling));
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let forge = Forge::load(&config).expect(ENOUGH);
    let mut run = forge.txt2img(config.request(|| 7).expect(ENOUGH)).expect(ENOUGH);
    assert!(run.all(|step| step.is_ok()));
    run.images().expect(ENOUGH);
    (HEAP.peak_usage() - before) as u64
}

/// A config of one step.
fn of(config: &Config, [side, batch, tokens]: [usize; 3], compute: ComputeChoice) -> Config {
    let mut config = config.clone();
    config.device.compute = compute;
    (config.image.width, config.image.height, config.image.batch) = (side, side, batch);
    config.knobs.set("t5_length", Value::Number(tokens as f64));
    config.sampling.steps = 1;
    config
}

#[test]
fn a_run_takes_no_more_than_its_plan_says() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Config::read(&fixtures::path("../flux.toml")).unwrap();
    let (tiny, also) = (Tiny::of("tiny-dev"), Tiny::of("tiny-schnell"));
    // Large pictures, where the decoder counts; large batches; long prompts, where T5 does.
    let small = [[64, 1, 24], [64, 8, 24], [128, 2, 77], [256, 1, 24], [64, 1, 512], [64, 1, 2048], [64, 1, 4096]];
    for (name, config) in [("demo", demo), ("tiny-dev", tiny.config()), ("tiny-schnell", also.config())] {
        for (size, compute) in small.iter().flat_map(|&size| [(size, ComputeChoice::F32), (size, ComputeChoice::Auto)])
        {
            // given a request, and what its plan says is enough
            let config = of(&config, size, compute);
            let planned = planned(&config);
            // when it is run under that, then it is enough
            let taken = taken(&config, planned);
            assert!(taken <= planned, "{name} {compute} {size:?}: {taken} bytes, planned {planned}");
        }
    }
}

#[test]
fn a_negative_prompt_is_in_the_plan_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tiny = Tiny::of("tiny-dev");
    let mut config = of(&tiny.config(), [64, 2, 1024], ComputeChoice::F32);
    (config.sampling.cfg, config.prompt.negative) = (3.0.into(), "a dog".into());
    let planned = planned(&config);
    let taken = taken(&config, planned);
    assert!(taken <= planned, "{taken} bytes, planned {planned}");
}
