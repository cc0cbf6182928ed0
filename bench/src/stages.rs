//! What a stage costs beside a run without it: soft inpainting beside plain, and live previews beside none.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::report::{Report, middle};

/// Of the picture that is drawn, pixels: 16 times the demo model's own, where maps are as large as a user's.
const SIDE: usize = 512;

const STEPS: &str = "6";

/// How often each way is run, one after the other, so that a machine that slows down slows all of them.
const TURNS: usize = 3;

/// What a run is called, and the flags that it adds to the first.
type Way = (&'static str, Vec<String>);

/// Draws by the demo model of Stable Diffusion through the command, which has to be beside this program; `decoder` is a tiny
/// autoencoder's, for previews at full size.
pub(crate) fn ways(decoder: Option<&str>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("forge-bench-stages-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let done = inpainting(&folder, report).and_then(|()| previews(&folder, decoder, report));
    fs::remove_dir_all(&folder)?;
    done
}

fn inpainting(folder: &Path, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let soft = |by: &str| vec!["--soft".to_owned(), by.to_owned()];
    let ways = [
        ("plain inpainting", vec![]),
        ("soft inpainting, blended", soft("blended")),
        ("soft inpainting, differential", soft("differential")),
    ];
    let [picture, mask] = ["in.png", "mask.png"].map(|name| folder.join(name));
    write(&picture, |x, y| (x ^ y) as u8)?;
    // A disc whose rim is soft.
    write(&mask, |x, y| {
        let from_centre = (x as f64 - SIDE as f64 / 2.0).hypot(y as f64 - SIDE as f64 / 2.0);
        (255.0 * (160.0 - from_centre) / 64.0).clamp(0.0, 255.0) as u8
    })?;
    let [picture, mask] = [picture, mask].map(|path| path.display().to_string());
    let first = ["img2img", &picture, "--mask", &mask, "--mask-round", "off", "--strength", "0.75"];
    compare(&first, &ways, folder, report)
}

fn previews(folder: &Path, decoder: Option<&str>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let preview = vec!["--preview".to_owned(), folder.join("preview.png").display().to_string()];
    let mut ways = vec![("txt2img without previews", vec![]), ("txt2img, previews", preview.clone())];
    if let Some(decoder) = decoder {
        let decoder = std::path::absolute(decoder)?.display().to_string();
        ways.push((
            "txt2img, previews by a tiny decoder",
            [preview, vec!["--preview-decoder".into(), decoder]].concat(),
        ));
    }
    compare(&["txt2img"], &ways, folder, report)
}

/// Reports each way's time, and what it is of the first's in the same turn.
fn compare(first: &[&str], ways: &[Way], folder: &Path, report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !ways.iter().any(|(name, _)| report.names(name)) {
        return Ok(());
    }
    let mut seconds = vec![Vec::new(); ways.len()];
    for _ in 0..TURNS {
        for ((_, flags), seconds) in ways.iter().zip(&mut seconds) {
            seconds.push(run(first, flags, folder)?);
        }
    }
    for ((name, _), of_way) in ways.iter().zip(&seconds) {
        report.whole(&format!("{name}, {STEPS} steps at {SIDE} px"), middle(of_way.clone()));
        let ratio = middle(of_way.iter().zip(&seconds[0]).map(|(way, plain)| way / plain).collect());
        println!("{name}: {:+.1} %", 100.0 * (ratio - 1.0));
    }
    Ok(())
}

/// Seconds from the command's start to its end.
fn run(first: &[&str], flags: &[String], folder: &Path) -> Result<f64, Box<dyn Error>> {
    let forge = env::current_exe()?.with_file_name(format!("forge{}", env::consts::EXE_SUFFIX));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let to = folder.join("out.png");
    let side = SIDE.to_string();
    let mut command = Command::new(&forge);
    command.current_dir(root).args(first).args(["--config", "sd.toml", "--prompt", "a red apple", "--steps", STEPS]);
    command.args(["--width", &side, "--height", &side]).args(flags).arg("--output").arg(&to);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    fs::remove_file(&to)?;
    Ok(seconds)
}

/// A grey picture whose pixels are `value(x, y)`.
fn write(path: &PathBuf, value: impl Fn(usize, usize) -> u8) -> io::Result<()> {
    let pixels: Vec<u8> = (0..SIDE * SIDE).map(|i| value(i % SIDE, i / SIDE)).collect();
    let mut encoder = png::Encoder::new(File::create(path)?, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}
