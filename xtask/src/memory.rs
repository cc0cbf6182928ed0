//! `cargo xtask memory`: the most memory that runs take and that their plans say, held against what was accepted before.

mod chart;
mod stages;

use std::{
    collections::BTreeMap,
    env::consts::EXE_SUFFIX,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{Done, root};

/// How much more than accepted is no fault: three in a hundred, or as many bytes, whichever is more.
const SHARE: f64 = 0.03;
const LEAST: u64 = 1 << 20;

/// How much more may be allocated after all turns than after the third: what a hash map grows by now and then, and no model.
const FLAT: i64 = 256 << 10;

/// What was measured of a case, in bytes, by stage.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Measured {
    /// What the plan says, of the process too.
    plan: BTreeMap<String, u64>,
    /// What of it is the process's, which the allocator does not count.
    process: u64,
    /// What was allocated at most; none of a case that is only planned.
    peak: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Line {
    case: String,
    #[serde(flatten)]
    measured: Measured,
}

#[derive(Deserialize)]
struct Flat {
    turns: usize,
    alone: i64,
    in_turn: i64,
}

/// What was accepted, by the instructions that kernels were chosen for, as each packs differently.
type Baseline = BTreeMap<String, BTreeMap<String, Measured>>;

/// A line of the history.
#[derive(Deserialize, Serialize)]
struct Accepted {
    commit: String,
    date: String,
    reason: String,
    isa: String,
    /// The most that each case takes, or its plan says where it is not run.
    most: BTreeMap<String, u64>,
}

impl Measured {
    fn most(&self) -> u64 {
        self.peak.as_ref().unwrap_or(&self.plan).values().copied().max().unwrap_or(0)
    }
}

/// Runs `[--accept REASON] [--case TEXT] [--turns N] [--stages SIDE [--decode off]]`.
pub(crate) fn run(flags: &[&str]) -> Done {
    let (mut reason, mut filter, mut turns, mut side, mut decode) = (None, "", 1000, None, "on");
    let (pairs, rest) = flags.as_chunks::<2>();
    for [flag, value] in pairs {
        match *flag {
            "--accept" if !value.trim().is_empty() => reason = Some(*value),
            "--case" => filter = value,
            "--decode" if ["on", "off"].contains(value) => decode = value,
            "--stages" => side = Some(*value),
            "--turns" => turns = value.parse().map_err(|_| format!("`--turns` takes a number, not `{value}`"))?,
            _ => return Err(unknown(flag)),
        }
    }
    if let [flag, ..] = rest {
        return Err(unknown(flag));
    }
    if reason.is_some() && !filter.is_empty() {
        return Err("`--accept` takes all cases; leave `--case` away".into());
    }
    let program = built()?;
    if let Some(side) = side {
        return stages::told(&program, side, filter, decode);
    }
    let isa = isa(&program)?;
    let measured = measured(&program, filter)?;
    let said = beyond_plan(&measured);
    let mut baseline = accepted()?;
    match reason {
        Some(reason) => {
            write_history(&isa, reason, &measured)?;
            baseline.insert(isa, measured);
            fs::write(path("baseline.json"), serde_json::to_string_pretty(&baseline)? + "\n")?;
            chart::draw(&history()?, &root().join("docs/memory.svg"))?;
        }
        None => match baseline.get(&isa) {
            Some(known) => said_of(faults(known, &measured, filter))?,
            None => println!("not compared: nothing was accepted on {isa}; `--accept REASON` does"),
        },
    }
    said_of(said)?;
    flat(&program, turns)
}

fn unknown(flag: &str) -> Box<dyn std::error::Error> {
    let takes = "`--accept REASON`, `--case TEXT`, `--turns N`, `--stages SIDE` and `--decode off`";
    format!("`{flag}` is not a flag of `memory`, or lacks its value; it takes {takes}").into()
}

fn said_of(faults: Vec<String>) -> Done {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn path(name: &str) -> PathBuf {
    root().join("bench/memory").join(name)
}

/// The program that counts; what is allocated does not depend on how well it is optimised.
fn built() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let mut build = Command::new(env!("CARGO"));
    // With all tests, as a program alone would have Burn built once more with the features that it asks for.
    build.current_dir(root()).args(["build", "--workspace", "--bins", "--tests"]);
    if !build.status()?.success() {
        return Err("the build failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    Ok(target.join("debug").join(format!("memory{EXE_SUFFIX}")))
}

fn output(program: &PathBuf, args: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let output = Command::new(program).args(args).current_dir(root()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the program that counts failed".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The instructions that kernels are chosen for.
fn isa(program: &PathBuf) -> Result<String, Box<dyn std::error::Error>> {
    Ok(output(program, &["--isa", "name"])?.trim().to_owned())
}

fn measured(program: &PathBuf, filter: &str) -> Result<BTreeMap<String, Measured>, Box<dyn std::error::Error>> {
    let text = output(program, &["--case", filter])?;
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Line { case, measured } = serde_json::from_str(line)?;
        println!("{:>7.1} MiB  {case}", measured.most() as f64 / LEAST as f64);
        all.insert(case, measured);
    }
    Ok(all)
}

fn accepted() -> Result<Baseline, Box<dyn std::error::Error>> {
    match fs::read_to_string(path("baseline.json")) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Baseline::new()),
        Err(error) => Err(error.into()),
    }
}

/// What takes more than its plan said.
fn beyond_plan(measured: &BTreeMap<String, Measured>) -> Vec<String> {
    let mut faults = Vec::new();
    for (case, Measured { plan, process, peak }) in measured {
        let planned = plan.values().copied().max().unwrap_or(0).saturating_sub(*process);
        let most = peak.iter().flat_map(BTreeMap::values).copied().max().unwrap_or(0);
        if most > planned {
            faults.push(format!("{case}: {most} bytes, and the plan says {planned}"));
        }
    }
    faults
}

/// What is more than was accepted, and cases that nobody accepted or that are gone.
fn faults(known: &BTreeMap<String, Measured>, measured: &BTreeMap<String, Measured>, filter: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (case, now) in measured {
        let Some(before) = known.get(case) else {
            faults.push(format!("{case}: nobody accepted it; `--accept REASON` does"));
            continue;
        };
        let none = BTreeMap::new();
        let pairs = [("plan", &before.plan, &now.plan)].into_iter().chain([(
            "peak",
            before.peak.as_ref().unwrap_or(&none),
            now.peak.as_ref().unwrap_or(&none),
        )]);
        for (what, before, now) in pairs {
            for (stage, &now) in now {
                let before = before.get(stage).copied().unwrap_or(0);
                if now > before.saturating_add(((before as f64 * SHARE) as u64).max(LEAST)) {
                    faults.push(format!("{case}: the {what} of `{stage}` is {now} bytes, accepted are {before}"));
                }
            }
        }
    }
    let gone = known.keys().filter(|case| case.contains(filter) && !measured.contains_key(*case));
    faults.extend(gone.map(|case| format!("{case}: the case is gone; `--accept REASON` takes it from the list")));
    faults
}

fn history() -> Result<Vec<Accepted>, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(path("history.jsonl"))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn write_history(isa: &str, reason: &str, measured: &BTreeMap<String, Measured>) -> Done {
    let git = |format: &str| {
        let output = Command::new("git").args(["log", "-1", format]).current_dir(root()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let most = measured.iter().map(|(case, measured)| (case.clone(), measured.most())).collect();
    let (commit, date) = (git("--format=%h")?, git("--format=%cs")?);
    let line = Accepted { commit, date, reason: reason.to_owned(), isa: isa.to_owned(), most };
    fs::create_dir_all(path(""))?;
    let mut file = OpenOptions::new().create(true).append(true).open(path("history.jsonl"))?;
    writeln!(file, "{}", serde_json::to_string(&line)?)?;
    Ok(())
}

/// That many runs one after the other leave nothing behind.
fn flat(program: &PathBuf, turns: usize) -> Done {
    let Flat { turns, alone, in_turn } = serde_json::from_str(&output(program, &["--turns", &turns.to_string()])?)?;
    println!("after {turns} runs {alone} bytes more, after {} of two models in turn {in_turn}", turns.div_ceil(10));
    let is_flat = alone <= FLAT && in_turn <= FLAT;
    if is_flat { Ok(()) } else { Err(format!("runs leave more than {FLAT} bytes behind").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn case(plan: u64, peak: u64) -> BTreeMap<String, Measured> {
        let of = |mib: u64| BTreeMap::from([("decode".to_owned(), mib * MIB)]);
        let measured = Measured { plan: of(plan), process: 10 * MIB, peak: Some(of(peak)) };
        BTreeMap::from([("a".to_owned(), measured)])
    }

    #[test]
    fn three_in_a_hundred_or_a_mebibyte_more_are_no_fault_and_more_are_one() {
        for (peak, count) in [(100, 0), (103, 0), (104, 1), (90, 0)] {
            assert_eq!(faults(&case(200, 100), &case(200, peak), "").len(), count, "{peak}");
        }
        assert_eq!(faults(&case(20, 10), &case(20, 11), "").len(), 0);
        assert_eq!(faults(&case(20, 10), &case(22, 12), "").len(), 2);
    }

    #[test]
    fn a_new_case_and_one_that_is_gone_are_faults() {
        assert_eq!(faults(&case(1, 1), &BTreeMap::new(), "").len(), 1);
        assert_eq!(faults(&BTreeMap::new(), &case(1, 1), "").len(), 1);
        assert_eq!(faults(&case(1, 1), &BTreeMap::new(), "b").len(), 0);
    }

    #[test]
    fn what_takes_more_than_its_plan_says_is_a_fault() {
        assert_eq!(beyond_plan(&case(110, 100)).len(), 0);
        assert_eq!(beyond_plan(&case(110, 101)).len(), 1);
    }
}
