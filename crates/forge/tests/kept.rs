//! What the allocator keeps of freed memory is never more than what the plan of a job leaves: here nothing.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::hint::black_box;

use forge::{ComputeChoice, Config, Forge, Job};
use kernels::HugePages;
use memory::Bytes;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages::new(1 << 30);

/// The smallest block that the allocator keeps.
const BLOCK: usize = 1 << 20;

/// Whether a block that is freed now is kept for later.
fn is_kept() -> bool {
    drop(black_box(vec![1u8; BLOCK]));
    ALLOCATOR.kept() > 0
}

fn config() -> Config {
    let mut config = Config::read(&fixtures::path("golden/sd-1/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    config
}

fn job(config: &Config) -> Job {
    Job::of(config.request(|| 0).unwrap().steps(2)).unwrap()
}

/// The last two, one after the other: the limit is the process's.
#[test]
fn what_is_kept_is_what_the_job_leaves_of_all_models_that_are_loaded() {
    two_models_leave_nothing();
    a_larger_job_of_a_loaded_model_leaves_nothing();
}

fn two_models_leave_nothing() {
    // given two models that have room together, to the byte
    let mut config = config();
    config.refiner.checkpoint = Some(fixtures::path("golden/sd-2/model.safetensors"));
    config.refiner.switch_at = 0.5;
    config.device.memory = Some(Forge::load(&config).unwrap().plan(&job(&config)).unwrap().total());
    let forge = Forge::load(&config).unwrap();
    // when each has taken its steps
    let mut run = forge.start(job(&config)).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    // then nothing is kept
    assert!(!is_kept());
    run.into_images().unwrap();
    // where there is room it is
    config.device.memory = Some(Bytes(16 << 30));
    let _run = Forge::load(&config).unwrap().start(job(&config)).unwrap();
    assert!(is_kept());
}

fn a_larger_job_of_a_loaded_model_leaves_nothing() {
    let mut config = config();
    let small = job(&config);
    (config.image.width, config.image.height) = (256, 256);
    let large = job(&config);
    let plan = |job| Forge::load(&config).unwrap().plan(job).unwrap().total();
    assert!(plan(&large).0 > plan(&small).0 + BLOCK as u64);
    config.device.memory = Some(plan(&large));
    let forge = Forge::load(&config).unwrap();
    let of_small = forge.start(small).unwrap();
    assert!(is_kept());
    drop(of_small);
    let _of_large = forge.start(large).unwrap();
    assert!(!is_kept());
}
