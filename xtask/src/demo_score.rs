//! `cargo xtask demo-score`: how often a demo model, Flux or another config's, draws what it was asked for.
//!
//! Asks for random subjects over random backgrounds through the release binary, compares each picture with the sprites
//! that the model was trained on, and passes when 95 % of the subjects and 99 % of the backgrounds are right.

mod contact_sheet;
mod prompts;
mod score;
mod sprites;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::image::{self, Image};
use crate::{Done, root};
use prompts::Prompt;
use score::Score;
use sprites::Sprites;

const SUBJECTS_NEEDED: usize = 95; // %
const BACKGROUNDS_NEEDED: usize = 99; // %
const FLUX: &str = "flux.toml";

struct Options {
    config: String,
    count: usize,
    seed: u64,
    steps: usize,
    forge: Option<PathBuf>,
}

pub(crate) fn run(flags: &[&str]) -> Done {
    let options = Options::parse(flags)?;
    let sprites = Sprites::read(&root().join("fixtures/training"))?;
    let prompts = prompts::draw(&sprites, options.count, options.seed)?;
    let target = target_folder()?;
    let forge = options.forge.map_or_else(|| build_forge(&target), Ok)?;

    let pictures = generate(&forge, &sprites, &prompts, &options.config, options.steps, &target.join("demo-score"))?;
    let scores = pictures.iter().zip(&prompts).map(|(picture, prompt)| score::judge(picture, prompt, &sprites));
    let scores: Vec<Score> = scores.collect();

    let sheet = sheet(&options.config);
    image::write(&contact_sheet::lay_out(&pictures), &root().join(&sheet))?;
    report(&scores, &prompts, &sprites);
    println!("wrote        {}", sheet.display());
    pass(&scores, &prompts)
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Options, String> {
        match flags {
            [] => Ok(Options { config: FLUX.into(), count: 100, seed: 7, steps: 20, forge: None }),
            ["--config", file, rest @ ..] => Ok(Options { config: file.to_string(), ..Options::parse(rest)? }),
            ["--count", count, rest @ ..] => Ok(Options { count: number("--count", count)?, ..Options::parse(rest)? }),
            ["--seed", seed, rest @ ..] => Ok(Options { seed: number("--seed", seed)?, ..Options::parse(rest)? }),
            ["--steps", steps, rest @ ..] => Ok(Options { steps: number("--steps", steps)?, ..Options::parse(rest)? }),
            ["--forge", path, rest @ ..] => {
                let path = std::path::absolute(path).map_err(|error| format!("`--forge {path}`: {error}"))?;
                Ok(Options { forge: Some(path), ..Options::parse(rest)? })
            }
            [unknown, ..] => Err(format!(
                "`{unknown}` is not a flag of `demo-score`, or has no value; it takes `--config FILE`, `--count N`, `--seed N`, \
                 `--steps N` and `--forge PATH`"
            )),
        }
    }
}

fn number<T: FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{flag} {value}` is not a whole number"))
}

/// Where the pictures are laid out, in the repository: each config has a sheet of its own.
fn sheet(config: &str) -> PathBuf {
    match Path::new(config).file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if config != FLUX => format!("docs/demo-sheet-{stem}.png").into(),
        _ => "docs/demo-sheet.png".into(),
    }
}

/// Cargo's target folder: xtask itself runs from `<target>/debug/xtask`.
pub(crate) fn target_folder() -> Result<PathBuf, Box<dyn Error>> {
    let xtask = std::env::current_exe()?;
    let target = xtask.ancestors().nth(2).ok_or("xtask does not run from a target folder; use `cargo xtask`")?;
    Ok(target.to_path_buf())
}

pub(crate) fn build_forge(target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--release", "--package", "forge-cli", "--target-dir"];
    let status = Command::new(cargo).args(build).arg(target).current_dir(root()).status()?;
    if !status.success() {
        return Err(format!("`cargo build --release --package forge-cli` ended with {status}").into());
    }
    Ok(target.join("release/forge").with_extension(std::env::consts::EXE_EXTENSION))
}

/// One picture for each prompt, kept under `folder` for a look at the misses.
fn generate(
    forge: &Path,
    sprites: &Sprites,
    prompts: &[Prompt],
    config: &str,
    steps: usize,
    folder: &Path,
) -> Result<Vec<Image<3>>, Box<dyn Error>> {
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot create `{}`: {error}", folder.display()))?;
    let pictures = prompts.iter().enumerate().map(|(index, prompt)| {
        print!("\r{}/{}", index + 1, prompts.len());
        std::io::stdout().flush()?;
        let output = folder.join(format!("{index:03}.png"));
        let size = sprites.size.to_string();
        let made = Command::new(forge)
            .args(["txt2img", "--config", config, "--width", &size, "--height", &size])
            .args(["--prompt", &prompt.text, "--seed", &prompt.seed.to_string(), "--steps", &steps.to_string()])
            .arg("--output")
            .arg(&output)
            .current_dir(root())
            .output()
            .map_err(|error| format!("cannot start `{}`: {error}", forge.display()))?;
        if !made.status.success() {
            let told = String::from_utf8_lossy(&made.stderr);
            return Err(format!("`{}` ended with {}:\n{}", prompt.text, made.status, told.trim()).into());
        }
        let picture = image::read(&output)?.opaque();
        if (picture.width, picture.height) != (sprites.size, sprites.size) {
            let Image { width, height, .. } = picture;
            return Err(format!("`{}` is {width} x {height}, expected {size} x {size}", output.display()).into());
        }
        Ok(picture)
    });
    let pictures = pictures.collect();
    println!();
    pictures
}

fn report(scores: &[Score], prompts: &[Prompt], sprites: &Sprites) {
    let misses = scores.iter().zip(prompts).enumerate().filter(|(_, (score, prompt))| !score.is_hit(prompt));
    for (index, (score, prompt)) in misses {
        let subject = &sprites.subjects[score.subject].name;
        let background = &sprites.backgrounds[score.background].name;
        println!("miss {index:03} (seed {}): {}: looks like {subject} on {background}", prompt.seed, prompt.text);
    }
    let count = scores.len();
    let psnr = scores.iter().map(|score| score.psnr).sum::<f64>() / count as f64;
    let edges = scores.iter().map(|score| score.edges).sum::<f64>() / count as f64;
    let hits = Hits::of(scores, prompts);
    println!("subjects     {} of {count} right, {SUBJECTS_NEEDED} % needed", hits.subjects);
    println!("backgrounds  {} of {count} right, {BACKGROUNDS_NEEDED} % needed", hits.backgrounds);
    println!("crispness    {psnr:.1} dB PSNR, edges {edges:.2} times as strong as the sprite's");
}

fn pass(scores: &[Score], prompts: &[Prompt]) -> Done {
    let hits = Hits::of(scores, prompts);
    let enough = |hits: usize, needed: usize| hits * 100 >= needed * scores.len();
    if enough(hits.subjects, SUBJECTS_NEEDED) && enough(hits.backgrounds, BACKGROUNDS_NEEDED) {
        Ok(())
    } else {
        Err("the demo model misses too often".into())
    }
}

struct Hits {
    subjects: usize,
    backgrounds: usize,
}

impl Hits {
    fn of(scores: &[Score], prompts: &[Prompt]) -> Hits {
        let pairs = || scores.iter().zip(prompts);
        Hits {
            subjects: pairs().filter(|(score, prompt)| score.subject == prompt.subject).count(),
            backgrounds: pairs().filter(|(score, prompt)| score.background == prompt.background).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(count: usize, wrong_subjects: usize, wrong_backgrounds: usize) -> Done {
        let prompt = |_| Prompt { subject: 1, background: 1, seed: 0, text: String::new() };
        let prompts: Vec<_> = (0..count).map(prompt).collect();
        let score = |i| Score {
            subject: usize::from(i >= wrong_subjects),
            background: usize::from(i >= wrong_backgrounds),
            psnr: 30.0,
            edges: 1.0,
        };
        pass(&(0..count).map(score).collect::<Vec<_>>(), &prompts)
    }

    #[test]
    fn it_passes_at_95_percent_subjects_and_99_percent_backgrounds() {
        assert!(verdict(100, 5, 1).is_ok());
        assert!(verdict(100, 6, 0).is_err());
        assert!(verdict(100, 0, 2).is_err());
        assert!(verdict(10, 1, 0).is_err());
    }

    #[test]
    fn flags_may_come_in_any_order() {
        let options = Options::parse(&["--steps", "4", "--config", "sd.toml", "--count", "9"]).unwrap();
        assert_eq!((options.config.as_str(), options.count, options.seed), ("sd.toml", 9, 7));
        assert_eq!((options.steps, options.forge), (4, None));
    }

    #[test]
    fn each_config_has_a_sheet_of_its_own() {
        assert_eq!(sheet(FLUX), Path::new("docs/demo-sheet.png"));
        assert_eq!(sheet("sd.toml"), Path::new("docs/demo-sheet-sd.png"));
    }

    #[test]
    fn a_flag_without_a_number_is_an_error() {
        assert_eq!(Options::parse(&["--seed", "x"]).err().unwrap(), "`--seed x` is not a whole number");
        assert!(Options::parse(&["--seed"]).is_err());
    }
}
