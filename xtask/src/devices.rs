//! `cargo xtask devices`: what a build with `cuda` does on a card that fails, how much it asks of one, and whether every kernel compiles,
//! told by a driver without a card (`bench/gpu/fake_driver.c`) and NVIDIA's real compiler. With `--vulkan` a build with `vulkan` on Mesa's
//! software driver, which computes, also where calls of it fail.
//!
//! What kernels compute is told by a card that a CPU plays (`card`), for the least models; `bench/gpu.sh` tells it on a real one, and how fast.

mod faults;
mod kernels;
mod machine;
mod memory;
mod steps;
mod values;
mod vulkan;
mod zeros;

use std::path::PathBuf;

use self::machine::Machine;
use crate::{Done, demo_score::target_folder};

/// A part of the check, by its name.
type Part = (&'static str, fn(&Machine) -> Done);

/// The parts, in the order in which they run.
const PARTS: [Part; 5] = [
    ("kernels", kernels::run),
    ("steps", steps::run),
    ("memory", memory::run),
    ("faults", faults::run),
    ("values", values::run),
];

/// Runs `[--forge PATH] [--toolkit FOLDER] [--only PART]`, or `--vulkan [--forge PATH]`.
pub(crate) fn run(flags: &[&str]) -> Done {
    if let ["--vulkan", flags @ ..] = flags {
        let folder = target_folder()?;
        let forge = match flags {
            [] => folder.join("release/forge"),
            ["--forge", path] => std::path::absolute(path)?,
            [flag, ..] => {
                return Err(format!("`{flag}` is no flag beside `--vulkan`, which takes `--forge PATH`").into());
            }
        };
        return vulkan::run(forge, folder.join("fault-layer"));
    }
    let (mut forge, mut toolkit, mut only) = (None, None, None);
    let (pairs, rest) = flags.as_chunks::<2>();
    for [flag, value] in pairs {
        match *flag {
            "--forge" => forge = Some(std::path::absolute(value)?),
            "--toolkit" => toolkit = Some(std::path::absolute(value)?),
            "--only" if PARTS.iter().any(|(name, _)| name == value) => only = Some(*value),
            _ => return Err(unknown(flag)),
        }
    }
    if let [flag, ..] = rest {
        return Err(unknown(flag));
    }
    let folder = target_folder()?;
    let forge = forge.unwrap_or_else(|| folder.join("release/forge"));
    let toolkit = toolkit.or_else(|| std::env::var_os("CUDA_PATH").map(PathBuf::from));
    let toolkit = toolkit
        .ok_or("`--toolkit` or CUDA_PATH says where NVIDIA's toolkit is, with `include` and `lib` or `lib64`")?;
    let machine = Machine::built(forge, &toolkit, &folder.join("fake-driver"))?;
    let parts = PARTS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    for (name, part) in parts {
        part(&machine).map_err(|error| format!("devices, {name}: {error}"))?;
    }
    Ok(())
}

fn unknown(flag: &str) -> Box<dyn std::error::Error> {
    let parts: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    format!(
        "`{flag}` is not a flag of `devices`, or lacks its value; it takes `--forge PATH`, `--toolkit FOLDER` and `--only {}`",
        parts.join("|")
    )
    .into()
}
