//! Cargo, started for a chore.

use std::process::Command;

use crate::{Done, root};

/// A cargo command, run in the workspace root; no argument has a space in it.
pub(crate) fn cargo_command(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split(' ')).current_dir(root());
    command
}

/// Runs a command, whose failure is an error.
pub(crate) fn succeed(command: &mut Command) -> Done {
    let words = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.status().map_err(|error| format!("cannot start `cargo {words}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {words}` ended with {status}").into()) }
}
