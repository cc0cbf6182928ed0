//! What a program takes.

use std::error::Error;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time and memory that a program took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// From its start to its end.
    pub seconds: f64,
    /// What its threads computed, in seconds all together; 0 where the system does not tell.
    pub computed: f64,
    /// The most memory that it had, in bytes; 0 where the system does not tell.
    pub peak: u64,
}

/// Runs a program to its end.
pub(crate) fn measured(command: &mut Command) -> Result<Measured, Box<dyn Error>> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let stat = format!("/proc/{}/stat", child.id());
    let (mut peak, mut computed) = (0, 0.0);
    let ended = loop {
        // It only grows, and is gone when the program ends.
        peak = std::fs::read_to_string(&status).ok().and_then(|text| high_water(&text)).unwrap_or(0).max(peak);
        computed =
            std::fs::read_to_string(&stat).ok().and_then(|text| computed_in(&text)).unwrap_or(0.0f64).max(computed);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        sleep(Duration::from_millis(5));
    };
    let seconds = start.elapsed().as_secs_f64();
    if !ended.success() {
        let mut told = String::new();
        if let Some(mut from) = child.stderr.take() {
            from.read_to_string(&mut told)?;
        }
        return Err(format!("ended with {ended}:\n{}", told.trim()).into());
    }
    Ok(Measured { seconds, computed, peak })
}

/// The most resident memory that Linux tells of a program, in bytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The seconds that Linux tells a program's threads have computed: its ticks for itself and in the system, a hundred a second.
fn computed_in(stat: &str) -> Option<f64> {
    // A program's name, which comes second, may have anything in it but ends with the last bracket.
    let (_, numbers) = stat.rsplit_once(')')?;
    let ticks = |field: usize| numbers.split_whitespace().nth(field)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_is_what_linux_calls_the_high_water_mark() {
        assert_eq!(high_water("Name:\tforge\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water("Name:\tforge\n"), None);
        assert_eq!(high_water("VmHWM: x kB"), None);
    }

    #[test]
    fn what_threads_computed_is_what_linux_counts_for_them_and_for_the_system() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 2";
        assert_eq!(computed_in(stat), Some(3.0));
        assert_eq!(computed_in("7 (forge) R 1"), None);
    }
}
