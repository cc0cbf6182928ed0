use std::{env::consts::EXE_SUFFIX, process::Command};

use crate::{Done, root};

/// Builds the program and the command in release, and runs the one, which times the other.
pub(crate) fn run(flags: &[&str]) -> Done {
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(root()).args(["build", "--release", "--workspace", "--bin", "bench", "--bin", "forge"]);
    if !build.args(["--message-format", "json"]).stderr(std::process::Stdio::inherit()).output()?.status.success() {
        return Err("the build failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let bench = target.join("release").join(format!("bench{EXE_SUFFIX}"));
    if Command::new(bench).current_dir(root()).args(flags).status()?.success() {
        Ok(())
    } else {
        Err("the bench failed".into())
    }
}
