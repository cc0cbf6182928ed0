//! Every kernel of the demo models, compiled for each kind of card.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::machine::{Machine, Ran};
use crate::Done;

/// Compute capabilities: A100, RTX 40, H100, RTX 50.
const CARDS: [&str; 4] = ["80", "89", "90", "120"];

/// Number formats, the one first that devices take by themselves.
const COMPUTES: [&str; 4] = ["bf16", "f32", "tf32", "f16"];

/// What a run that compiles kernels says.
const COMPILING: &str = "kernels are compiled";

/// The longest that a picture may take of a process that compiles its kernels, and of one that finds them.
const LONGEST: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(3)];

/// Fewer kernels than this are not all.
const LEAST: u64 = 20;

pub(super) fn run(machine: &Machine) -> Done {
    for card in CARDS {
        let cache = machine.cache(card);
        let _ = fs::remove_dir_all(&cache);
        let capability = [("FAKE_CUDA_CAPABILITY", card.to_owned())];
        let mut modules = 0;
        for config in ["flux.toml", "sd.toml"] {
            for compute in COMPUTES {
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
                let began = Instant::now();
                let ran = machine.done(&cache, &capability, &args)?;
                modules += ran.asked.modules;
                if compute == COMPUTES[0] {
                    let (first, began) = (began.elapsed(), Instant::now());
                    let again = machine.done(&cache, &capability, &args)?;
                    is_told(config, [(first, &ran), (began.elapsed(), &again)])?;
                }
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

/// Whether the first picture of a config said that kernels are compiled and the second, which finds them, did not, and neither took too long.
fn is_told(config: &str, [(cold, first), (warm, second)]: [(Duration, &Ran); 2]) -> Done {
    let [cold_seconds, warm_seconds] = [cold, warm].map(|took| took.as_secs_f64());
    println!(
        "the first picture of {config} takes {cold_seconds:.1} s, and {warm_seconds:.1} s where its kernels are kept"
    );
    if !first.told.contains(COMPILING) || second.told.contains(COMPILING) {
        return Err(format!("{config}: {COMPILING} is said where it is not so, or not where it is").into());
    }
    if [cold, warm].iter().zip(LONGEST).any(|(took, longest)| *took > longest) {
        return Err(format!("{config}: a first picture may take {LONGEST:?}").into());
    }
    Ok(())
}
