//! The project's chores, as one program: `cargo xtask ci`, `cargo xtask tidy`, `cargo xtask mutations`, `cargo xtask bench`,
//! `cargo xtask demo-score`, `cargo xtask memory`, `cargo xtask devices`, `cargo xtask lora-matrix`, `cargo xtask inpaint-sheet`,
//! `cargo xtask guidance-sheets`, `cargo xtask hires-sheets`, `cargo xtask synth`.
//!
//! What runs here is what runs on the build machine: `.ci/run` only installs what is missing and calls `ci`.

mod bench;
mod cargo;
mod ci;
mod demo_score;
mod devices;
mod guidance_sheets;
mod hires_sheets;
mod image;
mod inpaint_sheet;
mod lora_matrix;
mod memory;
mod mutations;
mod sheet;
mod synth;
mod tidy;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci [--from STEP] [--advisories]
      every check, cheapest first; the first failure stops
  tidy
      the rules that no compiler knows: crate ranks, circles, file names, notes without an issue, machine paths, stale docs
  mutations [--count 10000000] [--seed S]
      damaged inputs for every parser of what others wrote: none may panic, or take longer than a second
  bench [--case TEXT] [--json FILE] [--python PATH]
      how fast the engine is, as shares of what this machine can do at most; with a python that has torch and diffusers,
      next to them too
  demo-score [--count 100] [--seed 7] [--steps 20] [--forge PATH]
      how often the demo model draws what it was asked for; writes docs/demo-sheet.png
  lora-matrix [--write] [--forge PATH]
      the demo model under its LoRA in every way that docs/lora-flux.md shows, held against docs/lora-flux.png
  inpaint-sheet [--forge PATH]
      a part of a demo picture drawn anew in every way that docs/inpainting.md shows; writes docs/inpaint.png
  guidance-sheets [--caches] [--forge PATH]
      the demo models under each way of guiding them and under step caches; writes docs/guidance.png and docs/step-cache.png
  hires-sheets [--forge PATH]
      second passes of the demo models by each upscaler, and a refiner; writes docs/hires.png and docs/refiner.png
  memory [--accept REASON] [--case TEXT] [--turns 1000] [--stages SIDE]
      the most memory that runs take and that their plans say, held against what was accepted in bench/memory
  devices [--toolkit FOLDER] [--forge PATH] [--only kernels|steps|memory|faults]
      a build with `cuda` on a driver without a card: every kernel compiled for four kinds of card, what a step asks for,
      what runs take of its memory under ceilings, and more than fifty faults of the card, each told with what to do
  devices --vulkan [--forge PATH]
      a build with `vulkan` on Mesa's software driver: every operation against f64, and more than fifty faults of the driver
  synth MODEL OUT [--dtype f16|bf16|f32] [--seed 0]
      a checkpoint of random numbers in the exact shape of sd15, sd15-inpaint, sd21, sdxl, sdxl-refiner, flux-schnell,
      flux-dev, flux-ae, clip-l, t5xxl or any other list of fixtures/keys, for timing and for memory";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["ci", flags @ ..] => ci::run(flags),
        ["bench", flags @ ..] => bench::run(flags),
        ["tidy"] => tidy::run(),
        ["mutations", flags @ ..] => mutations::run(flags),
        ["demo-score", flags @ ..] => demo_score::run(flags),
        ["devices", flags @ ..] => devices::run(flags),
        ["memory", flags @ ..] => memory::run(flags),
        ["lora-matrix", flags @ ..] => lora_matrix::run(flags),
        ["inpaint-sheet", flags @ ..] => inpaint_sheet::run(flags),
        ["guidance-sheets", flags @ ..] => guidance_sheets::run(flags),
        ["hires-sheets", flags @ ..] => hires_sheets::run(flags),
        ["synth", arguments @ ..] => synth::run(arguments),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a chore ends with: xtask is a tool, so any error will do as long as its text says what to do next.
type Done = Result<(), Box<dyn Error>>;

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace root")
}
