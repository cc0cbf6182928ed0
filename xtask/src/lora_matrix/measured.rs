//! What a program takes.

use std::error::Error;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time and memory that a program took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// From its start to its end.
    pub seconds: f64,
    /// The most memory that it had, in bytes; 0 where the system does not tell.
    pub peak: u64,
}

/// Runs a program to its end.
pub(super) fn measured(command: &mut Command) -> Result<Measured, Box<dyn Error>> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        // It only grows, and is gone when the program ends.
        peak = std::fs::read_to_string(&status).ok().and_then(|text| high_water(&text)).unwrap_or(0).max(peak);
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
    Ok(Measured { seconds, peak })
}

/// The most resident memory that Linux tells of a program, in bytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
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
}
