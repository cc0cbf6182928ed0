//! `cargo xtask ci`: the one list of checks.
//!
//! Cheapest first, so that the likeliest mistakes are told soonest; the first failure stops.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Done, mutations, root, tidy};

const STEPS: &[Step] = &[
    Step { name: "fmt", checks: "the code is formatted", run: |_| cargo("fmt --all --check") },
    Step { name: "tidy", checks: "the project keeps its own rules", run: |_| tidy::run() },
    Step {
        name: "clippy",
        checks: "no lint complains",
        run: |_| cargo("clippy --workspace --all-targets -- -D warnings"),
    },
    Step { name: "tests", checks: "every test passes", run: |_| tests() },
    Step { name: "docs", checks: "the documentation builds without a warning", run: |_| docs() },
    Step { name: "deny", checks: "dependencies, licences and sources are allowed", run: deny },
    Step { name: "mutations", checks: "no damaged input makes a parser panic or wait", run: |_| mutations::run(&[]) },
];

/// The version that `deny.toml` is written for; `.ci/run` installs the same.
const CARGO_DENY: &str = "0.20.2";

struct Step {
    name: &'static str,
    checks: &'static str,
    run: fn(&Options) -> Done,
}

struct Options {
    first: usize,
    advisories: bool,
}

pub fn run(flags: &[&str]) -> Done {
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

/// A cargo command, run in the workspace root; no argument has a space in it.
pub fn cargo_command(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split(' ')).current_dir(root());
    command
}

/// Runs a command, whose failure is an error.
pub fn succeed(command: &mut Command) -> Done {
    let words = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.status().map_err(|error| format!("cannot start `cargo {words}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {words}` ended with {status}").into()) }
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
        assert_eq!(error, "no step is called `test`; the steps are fmt, tidy, clippy, tests, docs, deny, mutations");
    }

    #[test]
    fn the_build_machine_installs_the_same_cargo_deny() {
        assert!(include_str!("../../.ci/run").contains(&format!("cargo-deny@{CARGO_DENY}\n")));
    }

    #[test]
    fn an_unknown_flag_is_an_error() {
        assert!(Options::parse(&["--form", "docs"]).is_err());
        assert!(Options::parse(&["--from"]).is_err());
    }
}
