//! Every kernel of the demo models, compiled for each kind of card.

use std::fs;

use super::machine::Machine;
use crate::Done;

/// Compute capabilities: A100, RTX 40, H100, RTX 50.
const CARDS: [&str; 4] = ["80", "89", "90", "120"];

/// Fewer kernels than this are not all.
const LEAST: u64 = 20;

pub(super) fn run(machine: &Machine) -> Done {
    for card in CARDS {
        let cache = machine.cache(card);
        let _ = fs::remove_dir_all(&cache);
        let capability = [("FAKE_CUDA_CAPABILITY", card.to_owned())];
        let mut modules = 0;
        for config in ["flux.toml", "sd.toml"] {
            for compute in ["f32", "bf16"] {
                let args = [
                    "txt2img",
                    "--config",
                    config,
                    "--backend",
                    "cuda:0",
                    "--compute",
                    compute,
                    "--steps",
                    "2",
                    "--output",
                    "{out}/x.png",
                ];
                modules += machine.done(&cache, &capability, &args)?.asked.modules;
            }
        }
        // What it computes is wrong, as nothing is computed; a kernel that does not compile ends it with another error.
        let check = machine.run(&cache, &capability, &["devices", "--check"])?;
        if !check.told.contains("computed wrongly") {
            return Err(format!("compute capability {card}: {}", check.told).into());
        }
        modules += check.asked.modules;
        println!("compute capability {card}: {modules} kernels loaded");
        if modules < LEAST {
            return Err(format!("compute capability {card}: {modules} kernels are too few").into());
        }
    }
    Ok(())
}
