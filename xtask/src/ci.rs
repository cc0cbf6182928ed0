//! `cargo xtask ci`: the one list of checks.
//!
//! Cheapest first, so that the likeliest mistakes are told soonest; the first failure stops.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{
    Done,
    cargo::{cargo_command, succeed},
    mutations, root, tidy,
};

const STEPS: &[Step] = &[
    Step { name: "fmt", checks: "the code is formatted", run: |_| cargo("fmt --all --check") },
    Step { name: "tidy", checks: "the project keeps its own rules", run: |_| tidy::run() },
    Step {
        name: "clippy",
        checks: "no lint complains",
        run: |_| cargo("clippy --workspace --all-targets -- -D warnings"),
    },
    Step { name: "tests", checks: "every test passes", run: |_| tests() },
    Step { name: "targets", checks: "the kernels of NEON are right", run: |_| targets() },
    Step { name: "tiles", checks: "the kernels of AMX are right", run: |_| tiles() },
    Step { name: "examples", checks: "programs of outsiders build and run", run: |_| examples() },
    Step { name: "docs", checks: "the documentation builds without a warning", run: |_| docs() },
    Step { name: "deny", checks: "dependencies, licences and sources are allowed", run: deny },
    Step {
        name: "mutations",
        checks: "no damaged input makes a parser panic or wait",
        run: |_| mutations::run(&["--count", "50000"]),
    },
];

/// The version that `deny.toml` is written for; `.ci/run` installs the same.
const CARGO_DENY: &str = "0.20.2";

/// What it is checked for beside the system that it is built on; the GitHub workflow has macOS and Windows, on their own systems.
const ARM: &str = "aarch64-unknown-linux-gnu";
const ARM_LINKER: &str = "aarch64-linux-gnu-gcc";
const ARM_EMULATOR: &str = "qemu-aarch64";

/// Programs of `examples/`, each of which asserts what it shows.
const EXAMPLES: &[&str] = &["wrap", "sampler", "server", "format", "family"];

struct Step {
    name: &'static str,
    checks: &'static str,
    run: fn(&Options) -> Done,
}

struct Options {
    first: usize,
    advisories: bool,
}

pub(crate) fn run(flags: &[&str]) -> Done {
    let options = Options::parse(flags)?;
    let start = Instant::now();
    for (number, step) in STEPS.iter().enumerate().skip(options.first) {
        let place = format!("ci {}/{} {}", number + 1, STEPS.len(), step.name);
        println!("{place}: {}", step.checks);
        let start = Instant::now();
        let done = (step.run)(&options);
        let seconds = start.elapsed().as_secs_f32();
        done.map_err(|error| format!("{place} failed after {seconds:.1} s: {error}"))?;
        println!("{place}: passed in {seconds:.1} s");
    }
    println!("ci: passed in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Options, String> {
        match flags {
            [] => Ok(Options { first: 0, advisories: false }),
            ["--advisories", rest @ ..] => Ok(Options { advisories: true, ..Options::parse(rest)? }),
            ["--from", name, rest @ ..] => {
                let known = || STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
                let first = STEPS.iter().position(|step| step.name == *name);
                let first = first.ok_or_else(|| format!("no step is called `{name}`; the steps are {}", known()))?;
                Ok(Options { first, ..Options::parse(rest)? })
            }
            [unknown, ..] => {
                Err(format!("`{unknown}` is not a flag of `ci`; it takes `--from STEP` and `--advisories`"))
            }
        }
    }
}

/// Nextest runs test binaries side by side, but no doc tests; without it `cargo test` runs both.
fn tests() -> Done {
    if answers("nextest --version") {
        cargo("nextest run --workspace --no-fail-fast")?;
        cargo("test --doc --workspace")
    } else {
        cargo("test --workspace --no-fail-fast")
    }
}

/// Runs the kernels on NEON where Arm is emulated here, and otherwise compiles them, where there is a standard library; says what it does
/// not. Nothing else knows a processor, and the GitHub workflow builds and tests all of it on such machines.
fn targets() -> Done {
    let starts = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_std(ARM)? {
        println!("not checked: {ARM}; `rustup target add {ARM}` brings what it needs");
        return Ok(());
    }
    if !(starts(ARM_LINKER) && starts(ARM_EMULATOR)) {
        println!("not run: the kernels on NEON; they need {ARM_LINKER} and {ARM_EMULATOR}, which `.ci/run` installs");
        return cargo(&format!("check --package kernels --target {ARM}"));
    }
    let mut twins = cargo_command(&format!("test --package kernels --test twins --test integers --target {ARM}"));
    twins.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM_LINKER);
    twins.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{ARM_EMULATOR} -L /usr/aarch64-linux-gnu"));
    // A third of what it draws elsewhere: an emulated processor is slow.
    succeed(twins.env("PROPTEST_CASES", "16"))
}

/// Runs the kernels for AMX, whose instructions are carried out in software where the processor has none; says where it does not.
fn tiles() -> Done {
    if !has_rest_of_amx() {
        println!("not run: the kernels on AMX; they need Linux on x86-64 with AVX-512, its bf16 and its VNNI");
        return Ok(());
    }
    // Not the tests of integers and of the allocator, which have no tiles.
    let mut tests = cargo_command(
        "test --package kernels --lib --test twins --test cuts --test kept --test pairs --test pixels --test sizes",
    );
    // In a folder of its own, as all else would be built anew for the flag.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    tests.env("CARGO_TARGET_DIR", target.join("tiles"));
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    succeed(tests.env("RUSTFLAGS", format!("{flags} --cfg emulated_tiles").trim_start()))
}

/// Whether the processor has what the kernels for AMX do beside tiles, on a system that the tiles are emulated for.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_rest_of_amx() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn has_rest_of_amx() -> bool {
    false
}

fn has_std(target: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let found =
        Command::new(rustc).args(["--print", "target-libdir", "--target", target]).current_dir(root()).output()?;
    Ok(std::path::Path::new(String::from_utf8(found.stdout)?.trim()).is_dir())
}

/// Builds the programs in `examples` from what the tests have built, and runs each.
fn examples() -> Done {
    // With all tests, as programs alone would have Burn built once more with the features that they ask for.
    cargo("build --workspace --bins --tests")?;
    // Started as they are, beside this program, for the same reason.
    let built = std::env::current_exe()?;
    for name in EXAMPLES {
        let status = Command::new(built.with_file_name(name)).current_dir(root()).status()?;
        if !status.success() {
            return Err(format!("`examples/{name}` ended with {status}").into());
        }
    }
    Ok(())
}

fn docs() -> Done {
    succeed(cargo_command("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny(options: &Options) -> Done {
    if !answers("deny --version") {
        return Err(format!(
            "cargo-deny is not installed; `cargo install --locked cargo-deny@{CARGO_DENY}` brings it, \
             then `cargo xtask ci --from deny` goes on from here"
        )
        .into());
    }
    cargo("deny --log-level error check bans licenses sources")?;
    if options.advisories {
        cargo("deny --log-level error check advisories")
    } else {
        println!(
            "not checked: known vulnerabilities in dependencies; their database comes over the network, \
             `cargo xtask ci --from deny --advisories` fetches it and checks"
        );
        Ok(())
    }
}

fn cargo(arguments: &str) -> Done {
    succeed(&mut cargo_command(arguments))
}

fn answers(arguments: &str) -> bool {
    let status = cargo_command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_may_come_in_any_order() {
        for flags in [["--from", "docs", "--advisories"], ["--advisories", "--from", "docs"]] {
            let options = Options::parse(&flags).unwrap();
            assert_eq!((STEPS[options.first].name, options.advisories), ("docs", true));
        }
    }

    #[test]
    fn an_unknown_step_is_an_error_that_lists_the_steps() {
        let error = Options::parse(&["--from", "test"]).err().unwrap();
        assert_eq!(
            error,
            "no step is called `test`; the steps are fmt, tidy, clippy, tests, targets, tiles, examples, docs, deny, mutations"
        );
    }

    #[test]
    fn the_build_machine_installs_the_same_cargo_deny() {
        assert!(include_str!("../../.ci/run").contains(&format!("cargo-deny@{CARGO_DENY}\n")));
    }

    #[test]
    fn the_workflow_and_the_build_machine_check_neon() {
        assert!(include_str!("../../.ci/run").contains(ARM));
        assert!(include_str!("../../.github/workflows/ci.yml").contains(ARM));
    }

    #[test]
    fn an_unknown_flag_is_an_error() {
        assert!(Options::parse(&["--form", "docs"]).is_err());
        assert!(Options::parse(&["--from"]).is_err());
    }
}
