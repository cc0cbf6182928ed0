//! `cargo xtask bench`: how fast the engine is, as shares of what this machine can do at most and next to others.
//!
//! The machine's own limits are measured first, in the same run and on the same threads. Shapes are those of Flux (hidden 3072, 24
//! heads) and of the UNet and the decoder of SD 1.5.

mod adapters;
mod blocks;
mod demo;
mod kept;
mod operations;
mod peers;
mod report;
mod stages;
mod stepping;
mod unet;
mod whole;

use std::{error::Error, path::PathBuf, process::ExitCode};

use kernels::{HugePages, Isa};

use crate::{
    peers::Peers,
    report::{Peaks, Report},
    whole::Programs,
};

/// As in the command, so that results are measured where they are used.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages::new(1 << 30);

const USAGE: &str = "usage: cargo xtask bench [--case TEXT] [--json FILE] [--python PATH] \
                     [--tiny-decoder FILE] \
                     [--checkpoint FILE [--forge PATH] [--sdcpp PATH]]";

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
    let (mut json, mut filter, mut python, mut tiny_decoder) = (None, "", None, None);
    let mut programs = Programs::default();
    for pair in args.chunks(2) {
        match pair {
            [flag, file] if flag == "--json" => json = Some(PathBuf::from(file)),
            [flag, text] if flag == "--case" => filter = text,
            [flag, path] if flag == "--python" => python = Some(path),
            [flag, path] if flag == "--tiny-decoder" => tiny_decoder = Some(path.as_str()),
            [flag, path] if flag == "--checkpoint" => programs.checkpoint = Some(path),
            [flag, path] if flag == "--forge" => programs.forge = Some(path),
            [flag, path] if flag == "--sdcpp" => programs.sdcpp = Some(path),
            _ => return Err(USAGE.into()),
        }
    }
    let isa = Isa::best();
    let peaks = Peaks::of(isa);
    let threads = rayon::current_num_threads();
    println!("{isa:?}, {threads} threads; at most {peaks}\n");
    let peers = match python {
        Some(python) => Peers::measured(python, filter, threads)?,
        None => Peers::default(),
    };
    let mut report = Report::new(peaks, filter, peers);
    operations::products(isa, &mut report);
    kept::products(&mut report)?;
    operations::convolutions(isa, &mut report);
    operations::attention(isa, &mut report);
    operations::rows(isa, &mut report);
    blocks::flux(&mut report)?;
    adapters::steps(&mut report)?;
    adapters::load(&mut report)?;
    blocks::resnets(&mut report)?;
    unet::sd15(&mut report)?;
    unet::decoder(&mut report)?;
    unet::load(programs.checkpoint, &mut report)?;
    whole::pictures(&programs, threads, &mut report)?;
    stepping::samplers(&mut report)?;
    demo::picture(&mut report)?;
    stages::ways(tiny_decoder, &mut report)?;
    report.finish(json.as_deref())?;
    Ok(())
}
