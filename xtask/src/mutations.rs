//! `cargo xtask mutations`: the campaign of damaged inputs; CI runs a hundredth of it.

use crate::{
    Done,
    cargo::{cargo_command, succeed},
    root,
};

/// Inputs for each parser.
const COUNT: u64 = 10_000_000;

/// What half of the inputs are made from, whatever is checked out.
const FIXED: u64 = 1;

/// Runs `[--count N] [--seed S]`; without a seed, the fixed one and one that is new with each commit.
pub(crate) fn run(flags: &[&str]) -> Done {
    let (mut count, mut seeds) = (COUNT, vec![]);
    let (pairs, rest) = flags.as_chunks::<2>();
    for [flag, value] in pairs {
        let number = value.parse().map_err(|_| format!("`{flag}` takes a number, not `{value}`"))?;
        match *flag {
            "--count" => count = number,
            "--seed" => seeds.push(number),
            _ => {
                return Err(
                    format!("`{flag}` is not a flag of `mutations`; it takes `--count N` and `--seed S`").into()
                );
            }
        }
    }
    if let [flag] = rest {
        return Err(format!("`{flag}` is not a flag of `mutations`, or lacks its value").into());
    }
    if seeds.is_empty() {
        seeds.extend([Some(FIXED), of_commit()].into_iter().flatten());
    }
    println!("mutations: {count} inputs for each parser, of the seeds {seeds:?}");
    let seeds: String = seeds.iter().map(|seed| format!(" --seed {seed}")).collect();
    // A test of the workspace's, as a program by itself would have Burn built once more with other features.
    let mut test = cargo_command("test --workspace --test campaign -- no_damaged_input --nocapture");
    succeed(test.env("FORGE_CAMPAIGN", format!("--count {count}{seeds}")))
}

/// The first digits of the commit's name; none outside of a repository.
fn of_commit() -> Option<u64> {
    let git = std::process::Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()).output().ok()?;
    u64::from_str_radix(std::str::from_utf8(&git.stdout).ok()?.get(..15)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_flag_is_an_error_and_runs_nothing() {
        for flags in [&["--cuont", "1"][..], &["--count"], &["--count", "many"], &["7"]] {
            assert!(run(flags).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn a_commit_gives_a_seed_that_a_flag_can_hold() {
        assert!(of_commit().is_none_or(|seed| seed < 1 << 60));
    }
}
