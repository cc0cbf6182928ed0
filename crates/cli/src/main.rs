//! The `forge` command: [`cli::command`](fn@cli::command) with the samplers and schedules that come with the engine.

use std::process::ExitCode;

/// Most of a run's memory comes and goes in blocks of many megabytes. What is kept of them is about what one step of a large
/// picture holds at once.
#[global_allocator]
static ALLOCATOR: kernels::HugePages = kernels::HugePages::new(1 << 30).or_end(cli::out_of_memory);

fn main() -> ExitCode {
    cli::command(&cli::forge::catalog(), std::env::args_os())
}
