//! The `forge` command: reads arguments, runs the command that they name, and turns errors into messages and exit codes.

mod args;
mod batch;
mod config;
mod convert;
mod devices;
mod flags;
mod grid;
mod img2img;
mod live;
mod ops;
mod overrides;
mod plan;
mod replay;
mod term;
mod txt2img;
mod upscale;

use std::{
    ffi::OsString,
    io::{Write, stdout},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook},
    path::Path,
    process::ExitCode,
    sync::{Mutex, Once, PoisonError},
    thread,
    time::Duration,
};

use clap::FromArgMatches;
use diffusion_engine::{Catalog, parse, read_infotext};

use self::args::{Args, Command, ConfigCommand, InfoArgs, InspectArgs};
use forge::{inspect, keys::schema, paths};

use crate::{
    caches,
    error::{Error, Result},
    out_of_memory::{self, has_headroom},
    signals::{self, Interrupt},
};

/// The `forge` command, for a program that has samplers and schedules of its own: they are in its help, its lists, its completions
/// and its errors, and configs and pictures may name them.
///
/// Takes the arguments from the program's name on, prints results and errors, and ends the process at once only for
/// arguments that make no sense, and for a second Ctrl-C. It computes in a pool of its own; a panic is
/// reported as an error, by a hook that takes the place of the process's own.
///
/// ```no_run
/// use cli::forge::{self, samplers::{Sampler, euler}};
///
/// fn main() -> std::process::ExitCode {
///     let mine = Sampler::new("mine", "Mine", |start| euler().start(start));
///     let registry = forge::catalog().with_sampler(mine).expect("no sampler is called so");
///     cli::command(&registry, std::env::args_os())
/// }
/// ```
pub fn command(registry: &Catalog, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let run = || run(registry, arguments.clone());
    // The stack of the first thread is as large as whoever started the process allows.
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::FAILURE),
        Err(_) => run(),
    })
}

/// Bytes of stack: twice what Rust gives a thread.
const STACK: usize = 4 << 20;

fn run(registry: &Catalog, arguments: Vec<OsString>) -> ExitCode {
    signals::refuse_long_files();
    let mut command = args::command(registry);
    let matches = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return ended(term::written(help.print().and_then(|()| stdout().flush())), false),
    };
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    let json = args.command.json();
    out_of_memory::tell(json, args.command.is_planned());
    let code = ended(without_panic(|| answer(registry, args.command, &mut command)), json);
    core_tensor::rest(PATIENCE);
    code
}

/// How long a device may compute on once its run has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The exit code of what was done, of which an error is told.
fn ended(done: Result<()>, json: bool) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::report(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}

fn answer(registry: &Catalog, asked: Command, command: &mut clap::Command) -> Result<()> {
    // A run ends in its own way; what only prints ends at once.
    let is_awaited = match asked {
        Command::Txt2img(_) | Command::Img2img(_) | Command::Batch(_) | Command::Grid(_) | Command::Replay(_) => true,
        Command::Upscale(_) | Command::Convert(_) => true,
        Command::Plan(_) | Command::Samplers(_) | Command::Schedules(_) | Command::Inspect(_) | Command::Ops(_) => {
            false
        }
        Command::Devices(_) | Command::Info(_) | Command::Config { .. } | Command::Completions { .. } => false,
    };
    match is_awaited {
        true => has_headroom(),
        false => Interrupt::at_once(),
    }
    if let Some(folder) = caches::kernels() {
        core_tensor::keep_kernels_in(folder);
    }
    match asked {
        Command::Txt2img(args) => txt2img::run(registry, &args),
        Command::Img2img(args) => img2img::run(registry, &args),
        Command::Batch(args) => batch::run(registry, &args),
        Command::Grid(args) => grid::run(registry, &args),
        Command::Plan(args) => plan::run(registry, &args),
        Command::Replay(args) => replay::run(registry, &args),
        Command::Upscale(args) => upscale::run(&args),
        Command::Samplers(args) => term::list_samplers(registry, args.json),
        Command::Schedules(args) => term::list_schedules(registry, args.json),
        Command::Inspect(args) => inspection(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Ops(args) => ops::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Info(args) => info(registry, &args),
        Command::Config { command: ConfigCommand::Init(args) } => config::init(&args),
        Command::Config { command: ConfigCommand::Schema } => term::print(&format!("{:#}", schema(registry))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, command, name, &mut script);
            term::print(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

fn inspection(args: &InspectArgs) -> Result<()> {
    args.files.iter().try_for_each(|file| {
        let file = paths::to_read("FILE", file, Path::new(""))?;
        term::show_inspection(&file, &inspect(&file)?, args.json)
    })
}

fn info(registry: &Catalog, args: &InfoArgs) -> Result<()> {
    let text = read_infotext(&paths::to_read("IMAGE", &args.image, Path::new(""))?)?;
    if args.json { term::show_infotext(registry, &parse(&text, registry.knobs())) } else { term::print(&text) }
}

/// What the last panic said, and where.
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// A panic is a mistake in this program, and an error like any other to those who use it.
fn without_panic(work: impl FnOnce() -> Result<()>) -> Result<()> {
    static ONCE: Once = Once::new();
    let hear = |panic: &PanicHookInfo| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message").to_owned();
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some((message, place));
    };
    // Devices have hooks of their own before this one.
    ONCE.call_once(|| set_hook(Box::new(hear)));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        if let Some(failure) = core_tensor::of_device(&*panic) {
            return Err(forge::Error::from(failure).into());
        }
        let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (message, place) = said.unwrap_or_default();
        Err(Error::Bug { message, place })
    })
}
