//! What a run takes of a card's memory, where that is enough for all of the model and where it is not: the driver counts what it gives.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{
    machine::{Asked, Machine},
    zeros,
};
use crate::{Done, root, synth::keys};

/// Blocks of the Flux that is run, double and single, which are of the real width.
const DEPTH: [usize; 2] = [4, 8];

/// Widths of the text encoders that go with it, which are the demo model's: of T5 and of CLIP.
const WIDTHS: [(&str, usize); 2] = [("txt_in.weight", 128), ("vector_in.in_layer.weight", 64)];

/// Number formats, and ceilings as shares of what the run takes with all of the model on the card, in hundredths.
const SHARES: [(&str, &[u64]); 2] = [("bf16", &[100, 50, 25]), ("f32", &[50])];

/// How much a run may take above its ceiling, in hundredths.
const ABOVE: u64 = 5;

/// Steps of two runs.
const FEW: u64 = 1;
const MANY: u64 = 2;

/// What a plan that has no room is told by.
const REFUSED: i32 = 3;

pub(super) fn run(machine: &Machine) -> Done {
    let wide = machine.folder().join("wide.safetensors");
    write_wide(&wide)?;
    let wide = wide.display().to_string();
    let mut faults = Vec::new();
    for (compute, shares) in SHARES {
        let cache = machine.cache("90");
        let base = ["--config", "flux.toml", "--transformer", &wide, "--backend", "cuda:0", "--compute", compute];
        let base = [&base[..], &["--width", "512", "--height", "512"]].concat();
        let planned = machine.done(&cache, &[], &[&["plan", "--json"], &base[..]].concat())?;
        let planned: Value = serde_json::from_str(&planned.told)?;
        let all = planned["bytes"].as_u64().ok_or("a plan without `bytes`")?;
        for share in shares {
            let ceiling = all / 100 * share;
            let of = |steps: u64| {
                let (memory, steps) = (format!("{} MiB", ceiling.div_ceil(1 << 20)), steps.to_string());
                let run = ["--memory", &memory, "--steps", &steps, "--output", "{out}/x.png"];
                machine.run(&cache, &[], &[&["txt2img"], &base[..], &run].concat())
            };
            let [few, many] = [of(FEW)?, of(MANY)?];
            let told = match many.code {
                Some(0) => drawn(&few.asked, &many.asked, ceiling),
                Some(REFUSED) if many.asked.launches == 0 => Ok("refused before anything was computed".into()),
                code => Err(format!("ended with {code:?}: {}", many.told)),
            };
            let mib = ceiling >> 20;
            match told {
                Ok(told) => println!("{compute}, {share} % of what it takes, {mib} MiB: {told}"),
                Err(fault) => faults.push(format!("{compute}, {share} %, {mib} MiB: {fault}")),
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// What two runs took under a ceiling.
fn drawn(few: &Asked, many: &Asked, ceiling: u64) -> Result<String, String> {
    let each = many.uploaded.saturating_sub(few.uploaded) / (MANY - FEW);
    let told = format!("at most {} MiB taken, {} MiB brought there in each step", many.peak >> 20, each >> 20);
    if many.peak <= ceiling / 100 * (100 + ABOVE) { Ok(told) } else { Err(told) }
}

/// A Flux of the real width and of few blocks.
fn write_wide(to: &Path) -> Done {
    let list = fs::read_to_string(root().join("fixtures/keys/flux1-schnell.bfl.txt"))?;
    let real = keys::read(&list, None)?;
    let mut wide: BTreeMap<_, _> =
        real.into_iter().filter(|(name, _)| is_kept(name)).map(|(name, tensor)| (name, tensor.shape)).collect();
    for (name, width) in WIDTHS {
        *wide.get_mut(name).and_then(|shape| shape.last_mut()).ok_or("a Flux without its texts")? = width;
    }
    zeros::write(&wide, to)
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
}
