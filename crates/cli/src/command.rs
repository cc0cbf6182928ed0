//! The `forge` command: reads arguments, runs one of six commands, and turns errors into messages and exit codes.

mod args;
mod term;

use std::{
    ffi::OsString,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::FromArgMatches;
use core_tensor::Latent;
use diffusion_engine::{Txt2Img, check_writable, parse, read_infotext};
use samplers::Registry;

use self::{
    args::{Args, Command, InfoArgs, InspectArgs, Txt2ImgArgs},
    term::{Event, Reporter},
};
use crate::{Config, Error, Forge, Noise, Pattern, Result, dump, inspect, noise_file};

/// The `forge` command, for a program that has samplers and schedules of its own: they are in its help, its lists, its completions
/// and its errors, and configs and pictures may name them.
///
/// Takes the arguments from the program's name on, prints results and errors, and ends the process at once only for `--help` and for
/// arguments that make no sense. The thread pool that it computes in is rayon's global one.
///
/// ```no_run
/// use forge::samplers::{EULER, Registry, Sampler};
///
/// static MINE: Sampler = Sampler { id: "mine", label: "Mine", start: EULER.start, ..Sampler::PLAIN };
///
/// fn main() -> std::process::ExitCode {
///     let registry = Registry::builtin().with_sampler(&MINE).expect("no sampler is called so");
///     forge::command(&registry, std::env::args_os())
/// }
/// ```
pub fn command(registry: &Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut command = args::command(registry);
    let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| error.exit());
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    let json = args.command.json();
    let done = match args.command {
        Command::Txt2img(args) => txt2img(registry, *args),
        Command::Samplers(args) => term::list_samplers(registry, args.json),
        Command::Schedules(args) => term::list_schedules(registry, args.json),
        Command::Inspect(args) => inspection(&args),
        Command::Info(args) => info(registry, &args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut script);
            term::print(String::from_utf8_lossy(&script).trim_end())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::report(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}

fn txt2img(registry: &Registry, args: Txt2ImgArgs) -> Result<()> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    args.override_keys(&mut config)?;
    let request = config.request_with(registry, random_seed)?.checked()?;
    let output = Pattern::new(&config.image.output, request.seed, request.batch)?;
    if let Some(path) = &args.dump {
        let write = |source| Error::Write { path: path.clone(), source };
        check_writable(path).map_err(write)?;
    }
    let noise = match &config.sampling.noise {
        Some(Noise::Source(_)) | None => None,
        Some(Noise::File(path)) => Some(noise_file(path)?),
    };
    limit_threads(config.device.threads)?;
    // Inside the pool: the thread that drives the run is one of those that compute, and nobody is woken for each operation.
    rayon::scope(|_| draw(registry, &args, &config, request, &output, noise))
}

fn draw(
    registry: &Registry,
    args: &Txt2ImgArgs,
    config: &Config,
    request: Txt2Img,
    output: &Pattern,
    noise: Option<Latent>,
) -> Result<()> {
    let interrupted = on_interrupt();
    let mut reporter = Reporter::new(args.json);
    let mut forge = Forge::load_with(config, registry)?;
    reporter.event(&Event::Loaded { model: forge.name() });
    let seed = request.seed;
    let mut run = match noise {
        Some(noise) => forge.txt2img_from(request, noise)?,
        None => forge.txt2img(request)?,
    };
    reporter.event(&Event::Encoded { cut: &run.positive().cut });

    let steps = run.sigmas().steps();
    let go_on = |step| match interrupted.load(Ordering::Relaxed) {
        true => Err(Error::Interrupted { step, steps }),
        false => Ok(()),
    };
    go_on(0)?;

    let mut latents = Vec::new();
    while let Some(step) = run.next() {
        let step = step?;
        reporter.event(&Event::Step(step));
        if args.dump.is_some() {
            latents.push(run.latent().clone());
        }
        go_on(step.step)?;
    }
    let images = run.images()?;
    reporter.event(&Event::Decoded);
    go_on(steps)?;
    for (index, image) in images.iter().enumerate() {
        let seed = seed.wrapping_add(index as u64);
        let path = output.path(seed, index);
        image.save(&path)?;
        reporter.event(&Event::Image { path: &path, width: image.width, height: image.height, seed });
    }
    if let Some(path) = &args.dump {
        dump(&run, &latents, path)?;
    }
    Ok(())
}

fn inspection(args: &InspectArgs) -> Result<()> {
    args.files.iter().try_for_each(|file| term::show_inspection(file, &inspect(file)?, args.json))
}

fn info(registry: &Registry, args: &InfoArgs) -> Result<()> {
    let text = read_infotext(&args.image)?;
    if args.json { term::show_infotext(registry, &parse(&text)) } else { term::print(&text) }
}

/// The number that stands for `random`: A1111 and its relatives draw from 32 bits too.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}

fn limit_threads(threads: usize) -> Result<()> {
    const MAX: usize = 1024;
    if threads > MAX {
        let (expected, found) = (format!("0 to {MAX}"), threads.to_string());
        return Err(Error::Value { key: "device.threads", expected, found });
    }
    // The pool exists already only if this is called twice, and then it has the size of the first call.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    Ok(())
}

/// A flag that the first Ctrl-C sets; the second ends the process.
fn on_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // Without a handler Ctrl-C ends the process at once, which leaves no partial file either.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    interrupted
}
