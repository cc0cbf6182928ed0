//! `cargo xtask guidance-sheets`: the demo models under each way of guiding them, docs/guidance.png, and under step caches at three thresholds,
//! docs/step-cache.png, with what those save and how far they are off.
//!
//! What each picture is is told in docs/guidance.md, in the order of the lists here.

use std::error::Error;
use std::path::Path;

use std::process::Command;

use crate::demo_score::{build_forge, target_folder};
use crate::image::{self, Image};
use crate::lora_matrix::{Measured, measured, psnr};
use crate::{Done, root};

const SIDE: usize = 128;
const COLUMNS: usize = 6;
const SD: &str = "sd.toml";
const FLUX: &str = "flux.toml";

/// A picture: what it is called, and what is set of guidance.
type Guided = (&'static str, &'static str);

/// At the size that the model was trained for.
const METHODS: [Guided; 12] = [
    ("plain", ""),
    ("rescale", "rescale = 0.7"),
    ("apg", "apg = 'on'"),
    ("threshold", "threshold = 2.0"),
    ("interval", "interval = 'on'\ninterval_from = 0.2\ninterval_to = 0.8"),
    ("skip-early", "skip_early = 0.2"),
    ("freeu-v1", "freeu = 'v1'"),
    ("freeu-v2", "freeu = 'v2'"),
    ("pag", "pag = 2.0"),
    ("sag", "sag = 0.75"),
    ("pag-freeu", "pag = 2.0\nfreeu = 'v2'"),
    ("first-block", "first_block = 0.1"),
];

/// At twice the size in both directions, two columns and two rows each.
const LARGE: [Guided; 3] =
    [("large-plain", ""), ("large-shrink", "shrink = 2.0"), ("large-tiles", "tiles = 128\ntiles_overlap = 64")];

/// Step caches, a row for each: the config, and thresholds behind the picture without.
const CACHES: [(&str, [Guided; 4]); 3] = [
    (
        SD,
        [
            ("sd-whole", ""),
            ("sd-first-block-1", "first_block = 0.05"),
            ("sd-first-block-2", "first_block = 0.1"),
            ("sd-first-block-3", "first_block = 0.2"),
        ],
    ),
    (
        FLUX,
        [
            ("flux-whole", ""),
            ("flux-first-block-1", "first_block = 0.05"),
            ("flux-first-block-2", "first_block = 0.1"),
            ("flux-first-block-3", "first_block = 0.2"),
        ],
    ),
    (
        FLUX,
        [
            ("flux-whole-again", ""),
            ("flux-teacache-1", "teacache = 0.25"),
            ("flux-teacache-2", "teacache = 0.4"),
            ("flux-teacache-3", "teacache = 0.6"),
        ],
    ),
];

/// Whose steps are enough that some are like others.
const CACHE_STEPS: &str = "28";

pub(crate) fn run(flags: &[&str]) -> Done {
    let (is_all, forge) = match flags {
        [] => (true, None),
        ["--caches"] => (false, None),
        ["--forge", path] => (true, Some(std::path::absolute(path)?)),
        ["--caches", "--forge", path] => (false, Some(std::path::absolute(path)?)),
        _ => return Err("`guidance-sheets` takes `--caches` and `--forge PATH`".into()),
    };
    let target = target_folder()?;
    let forge = forge.map_or_else(|| build_forge(&target), Ok)?;
    let folder = target.join("guidance-sheets");
    std::fs::create_dir_all(&folder)?;
    let draw = |config: &str, guided: &Guided, more: &[&str]| draw(&forge, &folder, config, guided, more);
    if is_all {
        methods(&draw)?;
    }
    caches(&draw)
}

/// What draws a picture by a config, with more flags.
type Draw<'a> = &'a dyn Fn(&str, &Guided, &[&str]) -> Result<(Image<3>, Measured), Box<dyn Error>>;

fn methods(draw: Draw) -> Done {
    let large = (2 * SIDE).to_string();
    let at = |guided: &Guided, more: &[&str]| Ok::<_, Box<dyn Error>>(draw(SD, guided, more)?.0);
    let small = METHODS.iter().map(|guided| at(guided, &[])).collect::<Result<Vec<_>, _>>()?;
    let twice = ["--width", &large, "--height", &large];
    let larger = LARGE.iter().map(|guided| at(guided, &twice)).collect::<Result<Vec<_>, _>>()?;
    write(&laid_out(&small, &larger), "docs/guidance.png")
}

fn caches(draw: Draw) -> Done {
    println!("| picture | seconds | saved | dB |\n|---|---|---|---|");
    let mut rows = Vec::new();
    for (config, row) in &CACHES {
        let drawn = row.iter().map(|guided| draw(config, guided, &["--steps", CACHE_STEPS]));
        let drawn = drawn.collect::<Result<Vec<_>, _>>()?;
        for ((name, _), (picture, took)) in row.iter().zip(&drawn) {
            let saved = 100.0 * (1.0 - took.computed / drawn[0].1.computed);
            println!("| {name} | {:.2} | {saved:.0} % | {:.1} |", took.computed, psnr(picture, &drawn[0].0));
        }
        rows.extend(drawn.into_iter().map(|(picture, _)| picture));
    }
    let columns = CACHES[0].1.len();
    let sheet = Image::paint(columns * SIDE, CACHES.len() * SIDE, |x, y| {
        rows[y / SIDE * columns + x / SIDE].at(x % SIDE, y % SIDE)
    });
    write(&sheet, "docs/step-cache.png")
}

fn write(sheet: &Image<3>, path: &str) -> Done {
    image::write(sheet, &root().join(path))?;
    println!("wrote {path}");
    Ok(())
}

/// The small pictures row by row, and below them the large ones, one beside the other.
fn laid_out(small: &[Image<3>], large: &[Image<3>]) -> Image<3> {
    let rows = small.len().div_ceil(COLUMNS);
    Image::paint(COLUMNS * SIDE, (rows + 2) * SIDE, |x, y| match y.checked_sub(rows * SIDE) {
        Some(below) => large[x / (2 * SIDE)].at(x % (2 * SIDE), below),
        None => small.get(y / SIDE * COLUMNS + x / SIDE).map_or([255; 3], |picture| picture.at(x % SIDE, y % SIDE)),
    })
}

fn draw(
    forge: &Path,
    folder: &Path,
    config: &str,
    (name, guidance): &Guided,
    more: &[&str],
) -> Result<(Image<3>, Measured), Box<dyn Error>> {
    let models = format!("\"{}/fixtures/", root().display());
    let text = std::fs::read_to_string(root().join(config))?.replace("\"fixtures/", &models);
    let path = folder.join(name).with_extension("toml");
    std::fs::write(&path, format!("{text}\n[guidance]\n{guidance}\n"))?;
    let output = folder.join(name).with_extension("png");
    let mut txt2img = Command::new(forge);
    txt2img.arg("txt2img").arg("--config").arg(&path).args(["--compute", "f32", "--output"]).arg(&output).args(more);
    let took = measured(txt2img.current_dir(folder)).map_err(|error| format!("`{name}`: {error}"))?;
    Ok((image::read(&output)?.opaque(), took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_a_place_on_the_sheet() {
        let plain = |side: usize, value: u8| Image::paint(side, side, move |_, _| [value; 3]);
        let small: Vec<_> = (0..METHODS.len()).map(|i| plain(SIDE, i as u8)).collect();
        let large: Vec<_> = (0..LARGE.len()).map(|i| plain(2 * SIDE, 100 + i as u8)).collect();
        let sheet = laid_out(&small, &large);
        for (i, _) in METHODS.iter().enumerate() {
            assert_eq!(sheet.at(i % COLUMNS * SIDE + 5, i / COLUMNS * SIDE + 7), [i as u8; 3]);
        }
        for (i, _) in LARGE.iter().enumerate() {
            assert_eq!(sheet.at(i * 2 * SIDE + 5, sheet.height - 3), [100 + i as u8; 3]);
        }
    }
}
