//! What a step asks of a card, of a Flux as deep as the real one.

use std::{cmp::Reverse, collections::BTreeMap, error::Error, fs, path::Path};

use serde_json::{Map, Value};

use super::{
    machine::{Asked, Machine},
    zeros,
};
use crate::{Done, root, synth::blocks::Blocks};

/// Blocks of Flux: double and single.
const DEPTH: [usize; 2] = [19, 38];

/// Steps of two runs, and how many more the second has.
const FEW: &str = "2";
const MANY: &str = "6";
const STEPS_APART: u64 = 4;

/// How much a step may ask for at most. What comes back are answers of a byte: whether the model's answer and the latent are finite.
const LAUNCHES: u64 = 1000;
const DOWNLOADS: u64 = 2;
const DOWNLOADED: u64 = 2;
/// The noise level and the time's features.
const UPLOADS: u64 = 4;
const UPLOADED: u64 = 64 << 10;

pub(super) fn run(machine: &Machine) -> Done {
    let shapes = deep(&root().join("fixtures/models/flux-demo.safetensors"))?;
    let [plain, packed] = ["deep.safetensors", "deep.gguf"].map(|name| machine.folder().join(name));
    zeros::write(&shapes, &plain)?;
    zeros::write_gguf(&shapes, Blocks::Q8_0, &packed)?;
    let mut faults = Vec::new();
    for (model, of, compute) in
        [(&plain, "BF16", "bf16"), (&plain, "BF16", "f16"), (&plain, "BF16", "f32"), (&packed, "Q8_0", "bf16")]
    {
        let model = model.display().to_string();
        let cache = machine.cache("90");
        let steps = |count: &str| {
            let args = [
                "txt2img",
                "--config",
                "flux.toml",
                "--transformer",
                &model,
                "--backend",
                "cuda:0",
                "--compute",
                compute,
                "--steps",
                count,
                "--output",
                "{out}/x.png",
            ];
            machine.done(&cache, &[], &args).map(|ran| ran.asked)
        };
        // Two runs differ in their steps alone.
        let (few, many) = (steps(FEW)?, steps(MANY)?);
        // What a process asks for once differs by a few copies of some bytes from run to run.
        let each = |of: fn(&Asked) -> u64| of(&many).saturating_sub(of(&few)) / STEPS_APART;
        let [launches, uploads, uploaded, downloads, downloaded] = [
            each(|asked| asked.launches),
            each(|asked| asked.uploads),
            each(|asked| asked.uploaded),
            each(|asked| asked.downloads),
            each(|asked| asked.downloaded),
        ];
        println!(
            "a step of 19 + 38 blocks of {of} in {compute}: {launches} launches, {uploads} uploads of {uploaded} bytes, {downloads} downloads of \
             {downloaded} bytes"
        );
        println!("  {}", by_kernel(&few, &many).join(", "));
        let limits = [
            ("launches", launches, LAUNCHES),
            ("uploads", uploads, UPLOADS),
            ("bytes up", uploaded, UPLOADED),
            ("downloads", downloads, DOWNLOADS),
            ("bytes down", downloaded, DOWNLOADED),
        ];
        let beyond = limits.into_iter().filter(|(_, found, most)| found > most);
        faults.extend(
            beyond
                .map(|(what, found, most)| format!("{of} in {compute}: {found} {what} in a step, {most} are allowed")),
        );
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// How often a step launches each kernel, the most frequent first.
fn by_kernel(few: &Asked, many: &Asked) -> Vec<String> {
    let each = many.kernels.iter().map(|(name, times)| {
        let before = few.kernels.get(name).copied().unwrap_or_default();
        (times.saturating_sub(before) / STEPS_APART, name)
    });
    let mut launched: Vec<_> = each.filter(|(times, _)| *times > 0).collect();
    launched.sort_by_key(|&(times, name)| (Reverse(times), name));
    launched.iter().map(|(times, name)| format!("{times} {name}")).collect()
}

/// The tensors of a Flux of a model's widths and the real one's depth.
fn deep(model: &Path) -> Result<BTreeMap<String, Vec<usize>>, Box<dyn Error>> {
    let bytes = fs::read(model)?;
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("a model without a header")?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length))?).ok_or("a header that is cut off")?;
    let header: Map<String, Value> = serde_json::from_slice(header)?;
    let mut deep = BTreeMap::new();
    for (name, about) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let shape: Vec<usize> = serde_json::from_value(about["shape"].clone())?;
        deep.extend(names(name).into_iter().map(|name| (name, shape.clone())));
    }
    Ok(deep)
}

/// What a tensor of the first block is called in every block; those of others are left out, and what is in no block is kept.
fn names(name: &str) -> Vec<String> {
    let kinds = ["double_blocks.", "single_blocks."].into_iter().zip(DEPTH);
    let found = kinds.filter_map(|(kind, depth)| Some((kind, depth, name.strip_prefix(kind)?))).next();
    match found {
        None => vec![name.to_owned()],
        Some((kind, depth, rest)) => match rest.strip_prefix("0.") {
            Some(rest) => (0..depth).map(|i| format!("{kind}{i}.{rest}")).collect(),
            None => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_kernels_are_what_a_run_of_more_steps_launches_more() {
        let asked = |kernels: &[(&str, u64)]| Asked {
            kernels: kernels.iter().map(|&(name, times)| (name.to_owned(), times)).collect(),
            ..Asked::default()
        };
        let (few, many) = (asked(&[("once", 7), ("add", 2)]), asked(&[("once", 7), ("add", 10), ("norm", 40)]));
        assert_eq!(by_kernel(&few, &many), ["10 norm", "2 add"]);
    }

    #[test]
    fn the_first_block_stands_for_all() {
        assert_eq!(names("img_in.weight"), ["img_in.weight"]);
        assert_eq!(names("double_blocks.1.x"), [""; 0]);
        let all = names("single_blocks.0.norm");
        assert_eq!((all.len(), all[37].as_str()), (38, "single_blocks.37.norm"));
    }
}
