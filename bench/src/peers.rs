//! What other programs take for the same work, measured in the same run.

use std::{
    collections::BTreeMap,
    error::Error,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

/// Seconds by case, each the least over the number formats that the peer was timed in.
#[derive(Default)]
pub(crate) struct Peers(BTreeMap<String, (String, f64)>);

/// A line that the script prints.
#[derive(Deserialize)]
struct Line {
    case: String,
    dtype: String,
    seconds: f64,
    threads: usize,
}

impl Peers {
    /// Runs `fixtures/reference/bench_peers.py` on as many threads as ours, for the cases whose name contains `filter`.
    pub(crate) fn measured(python: &str, filter: &str, threads: usize) -> Result<Self, Box<dyn Error>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/reference/bench_peers.py");
        let arguments = ["--case", filter, "--threads", &threads.to_string()];
        let output = Command::new(python).arg(script).args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("the peers' script failed: {}", output.status).into());
        }
        let mut best = BTreeMap::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let Line { case, dtype, seconds, threads: theirs } = serde_json::from_str(line)?;
            if theirs != threads {
                return Err(format!("torch ran `{case}` on {theirs} threads, expected {threads}").into());
            }
            let entry = best.entry(case).or_insert((String::new(), f64::INFINITY));
            if seconds < entry.1 {
                *entry = (format!("torch {dtype}"), seconds);
            }
        }
        Ok(Self(best))
    }

    /// The peer and its seconds, in its best number format.
    pub(crate) fn best(&self, case: &str) -> Option<(String, f64)> {
        self.0.get(case).cloned()
    }
}
