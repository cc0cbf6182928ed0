//! `cargo xtask memory` runs this: how much memory runs take at most, by stage, as a counting allocator tells it to the byte, and what
//! their plans say. It prints one JSON object for each case.
//!
//! Tiny models are run; of real ones the files' headers are all there is, and their plans are all that is told. One thread computes, so
//! that the same program has the same peaks.

mod cases;
mod shapes;
mod stages;

use std::{collections::BTreeMap, error::Error, process::ExitCode};

use forge::{
    Config, Event, Forge, Job,
    diffusion_engine::family::work,
    memory::{Bytes, Plan},
};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

use crate::cases::{Case, Taken, cases};

/// Counts what is allocated. It stands in this program alone: the command's own allocator counts large blocks, and nothing else.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const USAGE: &str = "usage: memory [--case TEXT] [--turns N] [--stages SIDE [--decode off]] [--isa name]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut filter, mut turns, mut side, mut decodes) = ("", None, None, true);
    for pair in args.chunks(2) {
        match pair {
            [flag, text] if flag == "--case" => filter = text,
            [flag, _] if flag == "--isa" => {
                println!("{}", format!("{:?}", kernels::Isa::best()).to_lowercase());
                return Ok(());
            }
            [flag, word] if flag == "--decode" => decodes = word != "off",
            [flag, number] if flag == "--turns" => turns = Some(number.parse::<usize>()?),
            [flag, number] if flag == "--stages" => side = Some(number.parse::<usize>()?),
            _ => return Err(USAGE.into()),
        }
    }
    if let Some(turns) = turns {
        return flat(turns);
    }
    if let Some(side) = side {
        return stages::told(side, filter, decodes);
    }
    let folder = tempfile::tempdir()?;
    for case in cases(folder.path())?.iter().filter(|case| case.name.contains(filter)) {
        println!("{}", told(case)?);
    }
    Ok(())
}

/// A case's plan, and its peaks where it is run.
fn told(case: &Case) -> Result<Value, Box<dyn Error>> {
    let mut config = case.config.clone();
    if case.tight {
        config.device.memory = Some(least(&config)?);
    }
    let job = job(&config)?;
    let plan = Forge::load(&config)?.plan(&job)?;
    let stages: BTreeMap<&str, u64> =
        plan.stages.iter().map(|stage| (&*stage.name, plan.at(&stage.name).unwrap_or_default().0)).collect();
    let peaks = match case.taken {
        Taken::Run => Some(peaks(&config)?),
        Taken::Planned => None,
    };
    Ok(json!({ "case": case.name, "plan": stages, "process": process(&plan), "peak": peaks }))
}

/// What the plan counts of the process, of which the allocator knows nothing.
fn process(plan: &Plan) -> u64 {
    let is_its = |name: &str| ["process", "threads"].contains(&name);
    plan.parts.iter().filter(|(part, _)| is_its(&part.name)).map(|(part, unpacked)| part.bytes(*unpacked).0).sum()
}

fn job(config: &Config) -> Result<Job, Box<dyn Error>> {
    Ok(Job::of(config.request(|| 7)?)?)
}

/// The least that the plan of a config asks for.
fn least(config: &Config) -> Result<Bytes, Box<dyn Error>> {
    let mut config = config.clone();
    config.device.memory = Some(Bytes(1));
    match Forge::load(&config)?.plan(&job(&config)?) {
        Err(forge::Error::Memory(forge::memory::Error::TooLittle { needed, .. })) => Ok(needed),
        Err(other) => Err(other.into()),
        Ok(plan) => Ok(plan.total()),
    }
}

/// The most that is allocated in each stage of a run, without what there was before.
fn peaks(config: &Config) -> Result<BTreeMap<&'static str, u64>, Box<dyn Error>> {
    let before = HEAP.current_usage();
    let mut peaks = BTreeMap::new();
    let mut end = |stage: &'static str| {
        let most = HEAP.peak_usage().saturating_sub(before) as u64;
        let known: &mut u64 = peaks.entry(stage).or_default();
        *known = most.max(*known);
        HEAP.reset_peak_usage();
    };
    HEAP.reset_peak_usage();
    let forge = Forge::load(config)?;
    let mut run = forge.start(job(config)?)?;
    end("load");
    for event in run.by_ref() {
        match event? {
            Event::Encoded { .. } => end(work::ENCODE),
            Event::Step(_) => end(work::SAMPLE),
            _ => {}
        }
    }
    run.images()?;
    end(work::DECODE);
    Ok(peaks)
}

/// What is allocated after so many turns of one tiny model, and of two that take each other's place, beside what was after the first.
fn flat(turns: usize) -> Result<(), Box<dyn Error>> {
    let [one, other] = ["tiny-dev", "tiny-schnell"].map(|name| cases::golden(name).map(|config| cases::small(&config)));
    let (one, other) = (one?, other?);
    let draw = |forge: &Forge, config: &Config| -> Result<(), Box<dyn Error>> {
        let mut run = forge.start(job(config)?)?;
        run.by_ref().try_for_each(|event| event.map(drop))?;
        run.images()?;
        Ok(())
    };
    let forge = Forge::load(&one)?;
    let alone = after(turns, || draw(&forge, &one))?;
    drop(forge);
    let in_turn = after(turns.div_ceil(10), || {
        draw(&Forge::load(&one)?, &one)?;
        draw(&Forge::load(&other)?, &other)
    })?;
    println!("{}", json!({ "turns": turns, "alone": alone, "in_turn": in_turn }));
    Ok(())
}

/// How much more is allocated after so many turns than after the third, in bytes.
fn after(turns: usize, mut turn: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<i64, Box<dyn Error>> {
    (0..3).try_for_each(|_| turn())?;
    let first = HEAP.current_usage() as i64;
    (3..turns).try_for_each(|_| turn())?;
    Ok(HEAP.current_usage() as i64 - first)
}
