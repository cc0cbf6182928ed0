//! Whole programs that draw the same picture from the same file: ours and stable-diffusion.cpp.

use std::{
    error::Error,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::report::Report;

/// Which programs there are to compare, and the file that they read.
#[derive(Default)]
pub(crate) struct Programs<'a> {
    pub(crate) checkpoint: Option<&'a str>,
    pub(crate) forge: Option<&'a str>,
    pub(crate) sdcpp: Option<&'a str>,
}

const PICTURE: &str = "512x512, one step";

/// How often a program's memory is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// What a program took, and what it said.
struct Taken {
    seconds: f64,
    /// Where the system tells it.
    peak: Option<u64>,
    said: String,
}

/// A picture of 512 × 512 after one step without guidance: whole time and peak memory of each program that is given, and of
/// stable-diffusion.cpp what it says of its parts.
pub(crate) fn pictures(programs: &Programs, threads: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let Some(checkpoint) = programs.checkpoint else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("forge-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let picture = folder.join("picture.png");
    let size = ["--width", "512", "--height", "512", "--steps", "1", "--seed", "1"];
    if let Some(forge) = programs.forge {
        let mut command = Command::new(forge);
        command.args(["txt2img", "--checkpoint", checkpoint, "--prompt", "a cat", "--cfg", "1", "--output"]);
        command.arg(&picture).args(size).env("RAYON_NUM_THREADS", threads.to_string());
        // Once to warm up: the file is then in the system's memory for both.
        for case in ["first", "warm"] {
            let Taken { seconds, peak, .. } = taken(&mut command, &folder)?;
            report.program(&format!("forge, {PICTURE}, {case}"), seconds, peak);
        }
    }
    if let Some(sdcpp) = programs.sdcpp {
        let mut command = Command::new(sdcpp);
        command.args(["-m", checkpoint, "-p", "a cat", "--cfg-scale", "1", "-t", &threads.to_string(), "-o"]);
        command.arg(&picture).args(size);
        let Taken { seconds, peak, said } = taken(&mut command, &folder)?;
        report.program(&format!("stable-diffusion.cpp, {PICTURE}"), seconds, peak);
        for (part, before) in [
            ("load", "loading tensors completed, taking "),
            ("one step", "sampling completed, taking "),
            ("decoder", "decode_first_stage completed, taking "),
        ] {
            match said.split(before).nth(1).and_then(|rest| rest.split('s').next()?.parse().ok()) {
                Some(seconds) => report.program(&format!("stable-diffusion.cpp, {part}"), seconds, None),
                None => return Err(format!("stable-diffusion.cpp did not say `{before}`:\n{said}").into()),
            }
        }
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn taken(command: &mut Command, folder: &Path) -> Result<Taken, Box<dyn Error>> {
    let log = folder.join("log");
    let to = File::create(&log)?;
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to).spawn()?;
    let mut peak = None;
    let status = loop {
        // The last look before it ends: the system keeps the most that there was.
        peak = most_of(child.id()).or(peak);
        match child.try_wait()? {
            Some(status) => break status,
            None => sleep(PAUSE),
        }
    };
    let (seconds, said) = (start.elapsed().as_secs_f64(), String::from_utf8_lossy(&fs::read(&log)?).into_owned());
    if !status.success() {
        return Err(format!("{:?}: {status}\n{said}", command.get_program()).into());
    }
    Ok(Taken { seconds, peak, said })
}

/// The most memory that a process has had so far, bytes; Linux tells it.
fn most_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
