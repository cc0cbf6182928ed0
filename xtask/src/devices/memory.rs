//! What a run takes of a card's memory, where that is enough for all of the model and where it is not: the driver counts what it gives.

use std::{collections::BTreeMap, error::Error, fs};

use serde_json::Value;

use super::{
    machine::{Asked, Machine},
    zeros,
};
use crate::{
    Done, root,
    synth::{blocks::Blocks, keys},
};

/// Blocks of the Flux that is run, double and single, which are of the real width.
const DEPTH: [usize; 2] = [4, 8];

/// Widths of the text encoders that go with it, which are the demo model's: of T5 and of CLIP.
const WIDTHS: [(&str, usize); 2] = [("txt_in.weight", 128), ("vector_in.in_layer.weight", 64)];

/// Files, the number formats that are computed in, and ceilings as shares of what the run takes with all of the model on the card, in
/// hundredths.
const SHARES: [(Stored, &str, &[u64]); 3] =
    [(Stored::Bf16, "bf16", &[100, 50, 25]), (Stored::Bf16, "f32", &[50]), (Stored::Q4K, "bf16", &[100, 50, 25])];

/// How a file has its matrices.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    Bf16,
    Q4K,
}

impl Stored {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "wide.safetensors",
            Self::Q4K => "wide-q4_k.gguf",
        }
    }
}

/// How much more than the file the weights may take, in hundredths, beside what is unpacked at a time.
const WEIGHTS: u64 = 3;
/// Bytes of the largest matrix, unpacked.
const LARGEST: u64 = 2 * 3072 * 18_432;

/// How much a run may take above its ceiling, in hundredths.
pub(super) const ABOVE: u64 = 5;

/// How many bytes a card copies in a microsecond: 25 GB/s, as over PCI Express 4.
const COPY: u64 = 25_000;

/// How much longer a step may take than its copies, on a card that takes just as long to compute it, in hundredths: where nothing is done
/// while something else is, it takes twice as long.
const LONGER: u64 = 30;

/// Steps of two runs.
const FEW: u64 = 1;
const MANY: u64 = 2;

/// What is brought to a card before a model is: less than this, for finding out whether it multiplies rightly.
const MODEL: u64 = 1 << 16;

/// What a plan that has no room is told by.
const REFUSED: i32 = 3;

pub(super) fn run(machine: &Machine) -> Done {
    let shapes = shapes()?;
    zeros::write(&shapes, &machine.folder().join(Stored::Bf16.name()))?;
    zeros::write_gguf(&shapes, Blocks::Q4K, &machine.folder().join(Stored::Q4K.name()))?;
    let mut faults = Vec::new();
    for (stored, compute, shares) in SHARES {
        let file = machine.folder().join(stored.name());
        let size = fs::metadata(&file)?.len();
        let wide = file.display().to_string();
        let cache = machine.cache("90");
        let base = ["--config", "flux.toml", "--transformer", &wide, "--backend", "cuda:0", "--compute", compute];
        let base = [&base[..], &["--width", "512", "--height", "512"]].concat();
        let planned = machine.done(&cache, &[], &[&["plan", "--json"], &base[..]].concat())?;
        let planned = read_plan(&planned.told)?;
        let all = planned_bytes(&planned)?;
        let of_file =
            planned["parts"].as_array().and_then(|parts| parts.iter().find(|part| part["name"] == "transformer"));
        let weights = of_file.and_then(|part| part["bytes"].as_u64()).ok_or("a plan without a transformer")?;
        println!("{stored:?} in {compute}: a file of {} MiB takes {} MiB", size >> 20, weights >> 20);
        if compute == "bf16" && weights > size / 100 * (100 + WEIGHTS) + LARGEST {
            faults.push(format!("{stored:?} in {compute}: {weights} bytes of a file of {size}"));
        }
        for share in shares {
            let ceiling = all / 100 * share;
            let of = |settings: &[(&str, String)]| {
                let of = |steps: u64| {
                    let (memory, steps) = (format!("{} MiB", ceiling.div_ceil(1 << 20)), steps.to_string());
                    let run = ["--memory", &memory, "--steps", &steps, "--output", "{out}/x.png"];
                    machine.run(&cache, settings, &[&["txt2img"], &base[..], &run].concat())
                };
                Ok::<_, Box<dyn Error>>([of(FEW)?, of(MANY)?])
            };
            let [few, many] = of(&[])?;
            let told = match many.code {
                Some(0) => match drawn(&few.asked, &many.asked, ceiling) {
                    Ok(told) => match block(&few.asked, &many.asked) {
                        Some(block) => {
                            let speed = [("FAKE_CUDA_COPY", COPY), ("FAKE_CUDA_BLOCK", block)];
                            let [few, many] = of(&speed.map(|(name, value)| (name, value.to_string())))?;
                            timed(&few.asked, &many.asked).map(|time| format!("{told}; {time}"))
                        }
                        None => Ok(told),
                    },
                    fault => fault,
                },
                Some(REFUSED) if many.asked.uploaded < MODEL => Ok("refused before anything was computed".into()),
                code => Err(format!("ended with {code:?}: {}", many.told)),
            };
            let mib = ceiling >> 20;
            match told {
                Ok(told) => println!("{stored:?} in {compute}, {share} % of what it takes, {mib} MiB: {told}"),
                Err(fault) => faults.push(format!("{stored:?} in {compute}, {share} %, {mib} MiB: {fault}")),
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// A plan as JSON, which may come behind what a driver says.
pub(super) fn read_plan(told: &str) -> Result<Value, Box<dyn Error>> {
    let json = told.lines().find(|line| line.starts_with('{')).ok_or("no plan")?;
    Ok(serde_json::from_str(json)?)
}

pub(super) fn planned_bytes(plan: &Value) -> Result<u64, Box<dyn Error>> {
    Ok(plan["bytes"].as_u64().ok_or("a plan without `bytes`")?)
}

/// What two runs took under a ceiling.
fn drawn(few: &Asked, many: &Asked, ceiling: u64) -> Result<String, String> {
    let each = each_step(few, many, |asked| asked.uploaded);
    let told = format!("at most {} MiB taken, {} MiB brought there in each step", many.peak >> 20, each >> 20);
    if many.peak <= ceiling / 100 * (100 + ABOVE) { Ok(told) } else { Err(told) }
}

/// What a step has of something, where two runs differ in their steps alone.
fn each_step(few: &Asked, many: &Asked, of: fn(&Asked) -> u64) -> u64 {
    of(many).saturating_sub(of(few)) / (MANY - FEW)
}

/// For how many picoseconds a card computes a block of threads, if it computes a step just as long as it copies for it; `None` where it
/// copies little.
fn block(few: &Asked, many: &Asked) -> Option<u64> {
    let (bytes, blocks) = (each_step(few, many, |asked| asked.uploaded), each_step(few, many, |asked| asked.blocks));
    (bytes > 64 << 20).then(|| bytes * 1_000_000 / COPY / blocks.max(1))
}

/// How long a step takes on such a card.
fn timed(few: &Asked, many: &Asked) -> Result<String, String> {
    let times: [fn(&Asked) -> u64; 3] = [|asked| asked.elapsed, |asked| asked.computing, |asked| asked.copying];
    let times = times.map(|of| each_step(few, many, of));
    let [elapsed, computing, copying] = times;
    let [all, work, copies] = times.map(|time| time / 1_000_000_000);
    let told = format!("a step of {work} ms of work and {copies} ms of copies takes {all} ms");
    let most = computing.max(copying) / 100 * (100 + LONGER);
    if elapsed <= most { Ok(told) } else { Err(told) }
}

/// A Flux of the real width and of few blocks.
pub(super) fn shapes() -> Result<BTreeMap<String, Vec<usize>>, Box<dyn Error>> {
    let list = fs::read_to_string(root().join("fixtures/keys/flux1-schnell.bfl.txt"))?;
    let real = keys::read(&list, None)?;
    let mut wide: BTreeMap<_, _> =
        real.into_iter().filter(|(name, _)| is_kept(name)).map(|(name, tensor)| (name, tensor.shape)).collect();
    for (name, width) in WIDTHS {
        *wide.get_mut(name).and_then(|shape| shape.last_mut()).ok_or("a Flux without its texts")? = width;
    }
    Ok(wide)
}

/// Whether a tensor is of no block, or of one of the first.
fn is_kept(name: &str) -> bool {
    let mut kinds = ["double_blocks.", "single_blocks."].into_iter().zip(DEPTH);
    let of = kinds.find_map(|(kind, depth)| Some((name.strip_prefix(kind)?.split('.').next()?.parse().ok()?, depth)));
    of.is_none_or(|(number, depth): (usize, usize)| number < depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_behind_the_first_are_left_out() {
        let kept =
            ["img_in.weight", "double_blocks.3.x", "double_blocks.4.x", "single_blocks.7.x", "single_blocks.10.x"];
        assert_eq!(kept.map(is_kept), [true, true, false, true, false]);
    }

    #[test]
    fn a_run_may_take_a_twentieth_above_its_ceiling_and_no_more() {
        let asked = |peak, uploaded| Asked { peak, uploaded, ..Asked::default() };
        let told = drawn(&asked(0, 5 << 20), &asked(105 << 20, 11 << 20), 100 << 20);
        assert_eq!(told.unwrap(), "at most 105 MiB taken, 6 MiB brought there in each step");
        assert!(drawn(&asked(0, 0), &asked(106 << 20, 0), 100 << 20).is_err());
    }

    #[test]
    fn a_step_may_take_three_tenths_longer_than_what_it_is_bound_by() {
        // given a step that copies 250 MB in 10 ms for a million blocks
        let asked = |elapsed: u64| Asked {
            uploaded: 250_000_000,
            blocks: 1_000_000,
            elapsed: elapsed * 1_000_000_000,
            computing: 9_000_000_000,
            copying: 10_000_000_000,
            ..Asked::default()
        };
        // then a block is as long as makes them even, and what takes longer than that allows is a fault
        assert_eq!(block(&Asked::default(), &asked(0)), Some(10_000));
        assert_eq!(block(&asked(0), &asked(0)), None);
        let told = timed(&Asked::default(), &asked(13));
        assert_eq!(told.unwrap(), "a step of 9 ms of work and 10 ms of copies takes 13 ms");
        assert!(timed(&Asked::default(), &asked(14)).is_err());
    }
}
