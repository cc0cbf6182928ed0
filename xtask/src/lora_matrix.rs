//! `cargo xtask lora-matrix`: the demo model under its LoRA in every way that docs/lora-flux.md shows.
//!
//! Draws each picture through the release binary, compares it with its place on `docs/lora-flux.png`, and holds those that must be alike
//! against each other. `--write` writes the sheet anew. What each took is told in the columns of the page's table.

mod measured;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::demo_score::{build_forge, target_folder};
use crate::image::{self, Image};
use crate::{Done, root};
pub(crate) use measured::{Measured, measured};

/// What a picture may be off from the sheet's, in decibels: other processors compute other last bits.
const SAME: f64 = 30.0;
const COLUMNS: usize = 5;
const SIDE: usize = 128;
const SHEET: &str = "docs/lora-flux.png";
const SUBJECT: &str = "a cat face on a yellow background";

/// The LoRAs: what they are called here, and their files among the models.
const LORAS: [(&str, &str); 5] = [
    ("ink", "lora-ink-kohya"),
    ("ink-diffusers", "lora-ink-diffusers"),
    ("third", "lora-ink-kohya"),
    ("sd-ink", "lora-ink-sd-kohya"),
    ("sd-ink-diffusers", "lora-ink-sd-diffusers"),
];

/// Files that `forge convert` makes of the demo model: their names, and what it is told.
const CONVERTED: [(&str, &[&str]); 5] = [
    ("q8_0.gguf", &["--type", "q8_0"]),
    ("q4_k.gguf", &["--type", "q4_k"]),
    ("nf4.safetensors", &["--type", "nf4"]),
    ("merged.safetensors", &["--type", "f32", "--lora", "loras/ink.safetensors"]),
    ("merged-q8_0.gguf", &["--type", "q8_0", "--lora", "loras/ink.safetensors"]),
];

const FLUX: &str = "flux.toml";
const SD: &str = "sd.toml";

/// A picture: what it is called, its tags, and further flags.
struct Workflow {
    config: &'static str,
    name: &'static str,
    tags: &'static str,
    flags: &'static [&'static str],
    /// The workflow that it is compared with, and how alike it has to be, in decibels.
    like: (&'static str, f64),
}

const fn of(name: &'static str, tags: &'static str, like: (&'static str, f64)) -> Workflow {
    Workflow { config: FLUX, name, tags, flags: &[], like }
}

const fn over(name: &'static str, tags: &'static str, flags: &'static [&'static str], least: f64) -> Workflow {
    Workflow { flags, ..of(name, tags, ("one", least)) }
}

const fn of_sd(name: &'static str, tags: &'static str, least: f64) -> Workflow {
    Workflow { config: SD, ..of(name, tags, ("sd-one", least)) }
}

/// Weights that are stored otherwise make another picture, which is held against the sheet alone.
const ANY: f64 = 0.0;
/// The same sums in another order.
const ROUNDED: f64 = 45.0;
/// To the bit.
const EQUAL: f64 = 100.0;

const WORKFLOWS: &[Workflow] = &[
    of("none", "", ("one", ANY)),
    of("one", "<lora:ink:1>", ("one", EQUAL)),
    of("diffusers", "<lora:ink-diffusers:1>", ("one", ROUNDED)),
    of("half", "<lora:ink:0.5>", ("one", ANY)),
    of("negative", "<lora:ink:-0.7>", ("one", ANY)),
    of("three", "<lora:ink:1.5> <lora:ink-diffusers:-0.75> <lora:third:0.25>", ("one", ROUNDED)),
    of("blocks", "<lora:ink:1:lbw=double_blocks=0>", ("one", ANY)),
    of("steps", "<lora:ink:1:step=8-20>", ("one", ANY)),
    of("off", "<lora:ink:0>", ("none", EQUAL)),
    over("mapped", "<lora:ink:1>", &["--memory", "100 MiB"], ROUNDED),
    over("q8_0", "<lora:ink:1>", &["--transformer", "q8_0.gguf"], ANY),
    over("q4_k", "<lora:ink:1>", &["--transformer", "q4_k.gguf"], ANY),
    over("nf4", "<lora:ink:1>", &["--transformer", "nf4.safetensors"], ANY),
    over("merged", "", &["--transformer", "merged.safetensors"], ROUNDED),
    over("merged-q8_0", "", &["--transformer", "merged-q8_0.gguf"], ANY),
    over("hires", "<lora:ink:1>", HIRES, ANY),
    of_sd("sd-none", "", ANY),
    of_sd("sd-one", "<lora:sd-ink:1>", EQUAL),
    of_sd("sd-diffusers", "<lora:sd-ink-diffusers:1>", ROUNDED),
    Workflow { flags: HIRES, ..of_sd("sd-hires", "<lora:sd-ink:1>", ANY) },
];

/// A second pass at the size of the other pictures.
const HIRES: &[&str] = &["--width", "96", "--height", "96", "--hires-width", "128", "--hires-height", "128"];

pub(crate) fn run(flags: &[&str]) -> Done {
    let (is_written, forge) = match flags {
        [] => (false, None),
        ["--write"] => (true, None),
        ["--forge", path] => (false, Some(std::path::absolute(path)?)),
        ["--write", "--forge", path] => (true, Some(std::path::absolute(path)?)),
        _ => return Err("`lora-matrix` takes `--write` and `--forge PATH`".into()),
    };
    let target = target_folder()?;
    let forge = forge.map_or_else(|| build_forge(&target), Ok)?;
    let folder = target.join("lora-matrix");
    prepare(&forge, &folder)?;
    let mut drawn = Vec::new();
    println!("| picture | seconds | MiB | dB |\n|---|---|---|---|");
    for workflow in WORKFLOWS {
        let picture = draw(&forge, workflow, &folder)?;
        drawn.push(picture);
    }
    let sheet = if is_written { None } else { Some(image::read(&root().join(SHEET))?.opaque()) };
    let mut drifted = Vec::new();
    for (i, (workflow, (picture, Measured { seconds, peak, .. }))) in WORKFLOWS.iter().zip(&drawn).enumerate() {
        let (name, (other, least)) = (workflow.name, workflow.like);
        let at = WORKFLOWS.iter().position(|of| of.name == other).ok_or("a workflow is like one that is not there")?;
        let db = psnr(picture, &drawn[at].0);
        println!("| {name} | {seconds:.1} | {} | {db:.1} from `{other}` |", peak >> 20);
        if db < least {
            drifted.push(format!("`{name}` is {db:.1} dB from `{other}`, needed are {least}"));
        }
        if let Some(sheet) = &sheet {
            let db = psnr(picture, &tile(sheet, i)?);
            if db < SAME {
                drifted.push(format!("`{name}` is {db:.1} dB from its place on {SHEET}, needed are {SAME}"));
            }
        }
    }
    if is_written {
        let pictures: Vec<&Image<3>> = drawn.iter().map(|(picture, _)| picture).collect();
        image::write(&lay_out(&pictures), &root().join(SHEET))?;
        println!("wrote {SHEET}");
    }
    if drifted.is_empty() { Ok(()) } else { Err(drifted.join("\n").into()) }
}

/// The LoRAs under their names, and the files that are converted.
fn prepare(forge: &Path, folder: &Path) -> Done {
    let loras = folder.join("loras");
    std::fs::create_dir_all(&loras)?;
    let models = root().join("fixtures/models");
    for (name, file) in LORAS {
        let from = models.join(file).with_extension("safetensors");
        std::fs::copy(from, loras.join(name).with_extension("safetensors"))?;
    }
    for (output, flags) in CONVERTED {
        let mut convert = Command::new(forge);
        convert.arg("convert").arg(models.join("flux-demo.safetensors")).args([output, "--force"]).args(flags);
        measured(convert.current_dir(folder)).map_err(|error| format!("`{output}`: {error}"))?;
    }
    Ok(())
}

fn draw(forge: &Path, workflow: &Workflow, folder: &Path) -> Result<(Image<3>, Measured), Box<dyn Error>> {
    let Workflow { config, name, tags, flags, .. } = workflow;
    let output: PathBuf = folder.join(name).with_extension("png");
    let prompt = format!("{SUBJECT} {tags}");
    let mut txt2img = Command::new(forge);
    txt2img.arg("txt2img").arg("--config").arg(root().join(config));
    txt2img.args(["--compute", "f32", "--prompt", prompt.trim(), "--loras", "loras", "--seed", "42", "--output"]);
    txt2img.arg(&output).args(*flags);
    let took = measured(txt2img.current_dir(folder)).map_err(|error| format!("`{name}`: {error}"))?;
    Ok((image::read(&output)?.opaque(), took))
}

fn lay_out(pictures: &[&Image<3>]) -> Image<3> {
    let rows = pictures.len().div_ceil(COLUMNS);
    Image::paint(COLUMNS * SIDE, rows * SIDE, |x, y| {
        let picture = pictures.get(y / SIDE * COLUMNS + x / SIDE);
        picture.map_or([255; 3], |picture| picture.at(x % SIDE, y % SIDE))
    })
}

fn tile(sheet: &Image<3>, i: usize) -> Result<Image<3>, Box<dyn Error>> {
    if sheet.width != COLUMNS * SIDE || sheet.height != WORKFLOWS.len().div_ceil(COLUMNS) * SIDE {
        return Err(format!("{SHEET} is of other workflows; `cargo xtask lora-matrix --write` writes it anew").into());
    }
    let (left, top) = (i % COLUMNS * SIDE, i / COLUMNS * SIDE);
    Ok(Image::paint(SIDE, SIDE, |x, y| sheet.at(left + x, top + y)))
}

/// Peak signal-to-noise ratio of two pictures, in decibels; at most 100, and 0 where they differ in size.
pub(crate) fn psnr(a: &Image<3>, b: &Image<3>) -> f64 {
    if (a.width, a.height) != (b.width, b.height) {
        return 0.0;
    }
    let pairs = a.pixels.iter().flatten().zip(b.pixels.iter().flatten());
    let sum: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let mean = sum / (3 * a.pixels.len()) as f64;
    (20.0 * 255f64.log10() - 10.0 * mean.max(1e-10).log10()).min(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_a_place_on_the_sheet_and_no_other() {
        let pictures: Vec<_> =
            (0..WORKFLOWS.len()).map(|i| Image::paint(SIDE, SIDE, |x, y| [i as u8, x as u8, y as u8])).collect();
        let sheet = lay_out(&pictures.iter().collect::<Vec<_>>());
        for (i, picture) in pictures.iter().enumerate() {
            assert_eq!(tile(&sheet, i).unwrap(), *picture);
        }
        assert!(tile(&lay_out(&[&pictures[0]]), 0).is_err());
    }

    #[test]
    fn equal_pictures_are_a_hundred_decibels_alike_and_others_as_far_as_they_differ() {
        let plain = |value: u8| Image::paint(SIDE, SIDE, move |_, _| [value; 3]);
        assert_eq!(psnr(&plain(7), &plain(7)), 100.0);
        let off = psnr(&plain(0), &plain(255));
        assert!(off.abs() < 1e-9, "{off}");
        assert!((psnr(&plain(100), &plain(101)) - 48.13).abs() < 0.01);
        assert_eq!(psnr(&plain(0), &Image::paint(1, 1, |_, _| [0; 3])), 0.0);
    }

    #[test]
    fn every_workflow_is_like_one_that_is_there() {
        for workflow in WORKFLOWS {
            assert!(WORKFLOWS.iter().any(|of| of.name == workflow.like.0), "{}", workflow.name);
        }
    }
}
