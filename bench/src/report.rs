//! What was measured, on the terminal and as lines of JSON.

use std::{
    fmt, fs, io,
    path::Path,
    time::{Duration, Instant},
};

use kernels::{Compute, Isa, peaks};
use serde::Serialize;

use crate::peers::Peers;

/// What the machine can do at most, a second.
pub(crate) struct Peaks {
    f32: f64,
    bf16: f64,
    int8: Option<f64>,
    bandwidth: f64,
}

impl Peaks {
    pub(crate) fn of(isa: Isa) -> Self {
        Self {
            f32: peaks::arithmetic(isa, Compute::F32),
            bf16: peaks::arithmetic(isa, Compute::Bf16),
            int8: peaks::int8(isa),
            bandwidth: peaks::bandwidth(isa),
        }
    }
}

impl fmt::Display for Peaks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "f32 {:.0}, bf16 {:.0}", self.f32 / 1e9, self.bf16 / 1e9)?;
        if let Some(int8) = self.int8 {
            write!(f, ", int8 {:.0}", int8 / 1e9)?;
        }
        write!(f, " GFLOP/s; memory {:.1} GB/s", self.bandwidth / 1e9)
    }
}

pub(crate) struct Report {
    peaks: Peaks,
    /// Only cases whose name contains this are run.
    filter: String,
    peers: Peers,
    lines: Vec<Line>,
}

/// One line of JSON: a case, alone or next to another program.
#[derive(Clone, Serialize)]
struct Line {
    case: String,
    /// Which limit it is measured by: `f32`, `bf16` or `memory`; none for a whole program.
    peak: Option<&'static str>,
    seconds: f64,
    /// 10⁹ operations a second, or bytes where memory is the limit.
    gflops: Option<f64>,
    share_of_peak: Option<f64>,
    peer: Option<String>,
    /// How many times longer the peer takes.
    ratio: Option<f64>,
    /// The most memory that a whole program had, bytes.
    peak_memory: Option<u64>,
}

impl Report {
    pub(crate) fn new(peaks: Peaks, filter: &str, peers: Peers) -> Self {
        Self { peaks, filter: filter.to_owned(), peers, lines: Vec::new() }
    }

    /// Measures the memory once more: what it gives changes with what else the machine does.
    pub(crate) fn measure_memory_again(&mut self, isa: Isa) {
        self.peaks.bandwidth = peaks::bandwidth(isa);
        println!("memory now {:.1} GB/s", self.peaks.bandwidth / 1e9);
    }

    pub(crate) fn wants(&self, case: &str) -> bool {
        case.contains(&self.filter)
    }

    /// Whether a case is asked for by its name: one that takes minutes is not of those that are measured where none is.
    pub(crate) fn names(&self, case: &str) -> bool {
        !self.filter.is_empty() && self.wants(case)
    }

    /// Runs a case and, in bf16, compares it with what the peers took in their best format. `work` is operations, or bytes where there is no `compute`.
    pub(crate) fn case(&mut self, case: &str, compute: Option<Compute>, work: f64, run: impl FnMut()) {
        if self.wants(case) {
            self.measured(case, compute, work, median(run));
        }
    }

    /// [`Report::case`] that was timed elsewhere.
    pub(crate) fn measured(&mut self, case: &str, compute: Option<Compute>, work: f64, seconds: f64) {
        let (name, peak) = match compute {
            Some(Compute::F32 | Compute::F16 | Compute::Tf32) => ("f32", self.peaks.f32),
            Some(Compute::Bf16) => ("bf16", self.peaks.bf16),
            Some(Compute::Integers) => ("integers", self.peaks.f32),
            None => ("memory", self.peaks.bandwidth),
        };
        let (rate, share) = (work / seconds / 1e9, work / seconds / peak);
        println!("{case:36} {name:8} {:10.3} ms {rate:8.1} G/s {:5.1} %", seconds * 1e3, share * 100.0);
        let line = Line {
            case: case.to_owned(),
            peak: Some(name),
            seconds,
            gflops: Some(rate),
            share_of_peak: Some(share),
            peer: None,
            ratio: None,
            peak_memory: None,
        };
        self.lines.push(line);
        if compute == Some(Compute::Bf16)
            && let Some((peer, seconds)) = self.peers.best(case)
        {
            self.compare(case, Compute::Bf16, &peer, seconds);
        }
    }

    /// Sets another program's time beside a case that was run.
    pub(crate) fn compare(&mut self, case: &str, compute: Compute, peer: &str, seconds: f64) {
        let name = if compute == Compute::F32 { "f32" } else { "bf16" };
        let Some(ours) = self.lines.iter().rfind(|line| line.case == case && line.peak == Some(name)).cloned() else {
            return;
        };
        let ratio = seconds / ours.seconds;
        println!("{:36} {name:6} {:10.3} ms  ours is {ratio:.2} times as fast", format!("  {peer}"), seconds * 1e3);
        self.lines.push(Line { peer: Some(peer.to_owned()), ratio: Some(ratio), ..ours });
    }

    /// A whole program's time, which no single limit bounds.
    pub(crate) fn whole(&mut self, case: &str, seconds: f64) {
        self.program(case, seconds, None);
    }

    /// [`Report::whole`] with the most memory that the program had, bytes.
    pub(crate) fn program(&mut self, case: &str, seconds: f64, peak_memory: Option<u64>) {
        let memory = peak_memory.map(|bytes| format!("{:8.2} GB at most", bytes as f64 / 1e9)).unwrap_or_default();
        println!("{case:43} {:10.3} ms {memory}", seconds * 1e3);
        let case = case.to_owned();
        self.lines.push(Line {
            case,
            peak: None,
            seconds,
            gflops: None,
            share_of_peak: None,
            peer: None,
            ratio: None,
            peak_memory,
        });
    }

    /// Writes the lines of JSON, where a file is asked for.
    pub(crate) fn finish(self, json: Option<&Path>) -> io::Result<()> {
        let Some(file) = json else { return Ok(()) };
        let lines = self.lines.iter().map(|line| serde_json::to_string(line).map(|line| line + "\n"));
        fs::write(file, lines.collect::<Result<String, _>>()?)
    }
}

/// The median of as many runs as fit into a second, five at least, after one that does not count.
pub(crate) fn median(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 5 || start.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        run();
        seconds.push(start.elapsed().as_secs_f64());
    }
    middle(seconds)
}

pub(crate) fn middle(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
