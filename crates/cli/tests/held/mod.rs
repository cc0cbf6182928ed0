//! Runs under the least memory that their plans ask for, and what they take of the heap.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex, PoisonError};

use forge::{
    ComputeChoice, Config, Error, Forge, Job, Txt2Img,
    diffusion_engine::{FromPictures, Origin, Pass, Raster, Size},
    memory::{Bytes, Plan},
    samplers::Value,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
pub(crate) static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

/// Why a run under its own plan succeeds.
pub(crate) const ENOUGH: &str = "what the plan says is enough";

/// The least memory that the plan of a job asks for.
pub(crate) fn least(config: &Config, job: &dyn Fn(&Config) -> Job) -> Bytes {
    let mut config = config.clone();
    config.device.memory = Some(Bytes(1));
    match Forge::load(&config).expect("opening reads headers alone").plan(&job(&config)) {
        Err(Error::Memory(forge::memory::Error::TooLittle { needed, .. })) => needed,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a byte is enough"),
    }
}

/// What of a plan is the process's, of which the heap knows nothing.
pub(crate) fn of_process(plan: &Plan) -> u64 {
    let is_its = |name: &str| ["process", "threads"].contains(&name);
    plan.parts.iter().filter(|(part, _)| is_its(&part.name)).map(|(part, _)| part.mapped.0).sum()
}

/// What the plan of a job says of the heap where it has the least memory, and what loading and running it takes.
pub(crate) fn planned_and_taken(config: &Config, job: &dyn Fn(&Config) -> Job) -> [u64; 2] {
    let mut config = config.clone();
    let least = least(&config, job);
    config.device.memory = Some(least);
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let forge = Forge::load(&config).expect(ENOUGH);
    let planned = least.0 - of_process(&forge.plan(&job(&config)).expect(ENOUGH));
    let mut run = forge.start(job(&config)).expect(ENOUGH);
    assert!(run.all(|step| step.is_ok()));
    run.images().expect(ENOUGH);
    [planned, (HEAP.peak_usage() - before) as u64]
}

pub(crate) fn drawn(config: &Config) -> Job {
    Job::of(config.request(|| 7).expect(ENOUGH)).expect(ENOUGH)
}

/// A config of one step.
pub(crate) fn of(config: &Config, [side, batch, tokens]: [usize; 3], compute: ComputeChoice) -> Config {
    let mut config = config.clone();
    config.device.compute = compute;
    (config.image.width, config.image.height, config.image.batch) = (side, side, batch);
    config.knobs.set("t5_length", Value::Number(tokens as f64));
    config.sampling.steps = 1;
    config
}

/// A golden model of Stable Diffusion in one step.
pub(crate) fn sd(case: &str, side: usize) -> Config {
    let mut config =
        Config::read(&fixtures::path(&format!("golden/{case}/case.toml"))).expect("every case has a config");
    config.device.compute = ComputeChoice::F32;
    (config.image.width, config.image.height, config.sampling.steps) = (side, side, 1);
    config
}

/// A job that begins with a grey picture.
pub(crate) fn from_picture(config: &Config) -> Job {
    let size = Size { width: config.image.width, height: config.image.height };
    let grey = Raster::new(size, vec![[128; 3]; size.width * size.height]).expect("as many pixels as the size has");
    let request: Txt2Img = config.request(|| 7).expect(ENOUGH);
    let request = request.with(|pass: &mut Pass| pass.start = Origin::Pictures(Arc::new(FromPictures::of(grey))));
    Job::of(request).expect(ENOUGH)
}

/// What it is called, its config, and its job.
pub(crate) type Row = (&'static str, Config, fn(&Config) -> Job);

/// Draws each row under what its plan says is enough.
pub(crate) fn keep_to_their_plans<const N: usize>(rows: [Row; N]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let beyond = rows.into_iter().filter_map(|(name, config, job)| {
        let [planned, taken] = planned_and_taken(&config, &job);
        (taken > planned).then(|| format!("{name}: {taken} bytes, planned {planned}"))
    });
    let faults: Vec<String> = beyond.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
