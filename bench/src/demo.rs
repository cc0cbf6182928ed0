//! The demo picture, from the command's start to the written file.

use std::{
    env, fs,
    io::{Error, Result},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use crate::report::{Report, middle};

const CASE: &str = "demo picture, 20 steps at 128 px";
const RUNS: usize = 5;

/// Needs the command beside this program; `cargo xtask bench` builds both.
pub(crate) fn picture(report: &mut Report) -> Result<()> {
    if !report.wants(CASE) {
        return Ok(());
    }
    let forge = env::current_exe()?.with_file_name(format!("forge{}", env::consts::EXE_SUFFIX));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or_else(|| Error::other("no workspace"))?;
    let to = env::temp_dir().join(format!("forge-bench-{}.png", std::process::id()));
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let status = Command::new(&forge)
            .current_dir(root)
            .args(["txt2img", "--config", "flux.toml", "--output"])
            .arg(&to)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(Error::other(format!("{} failed: {status}", forge.display())));
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    fs::remove_file(&to)?;
    report.whole(CASE, middle(seconds));
    Ok(())
}
