//! `cargo xtask inpaint-sheet`: a part of a demo picture drawn anew, under each mask, with each fill, softly and not.
//!
//! Every picture is the release binary's, by `forge img2img`; docs/inpainting.md tells the columns and rows.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::demo_score::{build_forge, target_folder};
use crate::image::{self, Image, mix};
use crate::{Done, root};

const SHEET: &str = "docs/inpaint.png";
const SIDE: usize = 128;
const GAP: usize = 6;

/// What there is at first, and what is drawn in its middle.
const BEFORE: &str = "a cat face on a yellow background";
const ANEW: &str = "a red apple on a yellow background";

const FILLS: [&str; 4] = ["fill", "original", "noise", "nothing"];
const SOFT: [&str; 3] = ["off", "blended", "differential"];

/// A mask: its name, and how much of a place is drawn anew by how far it is from the middle, in pixels.
type Mask = (&'static str, fn(f32) -> f32);

const MASKS: [Mask; 2] =
    [("hard", |from| if from < 40.0 { 1.0 } else { 0.0 }), ("gradient", |from| (1.6 - from / 40.0).clamp(0.0, 1.0))];

pub(crate) fn run(flags: &[&str]) -> Done {
    let forge = match flags {
        [] => None,
        ["--forge", path] => Some(std::path::absolute(path)?),
        _ => return Err("`inpaint-sheet` takes `--forge PATH`".into()),
    };
    let target = target_folder()?;
    let forge = forge.map_or_else(|| build_forge(&target), Ok)?;
    let folder = target.join("inpaint-sheet");
    std::fs::create_dir_all(&folder)?;
    let before = drawn(&forge, &folder.join("before.png"), &["txt2img", "--prompt", BEFORE])?;
    let mut rows = Vec::new();
    for (name, share) in MASKS {
        let mask = Image::paint(SIDE, SIDE, |x, y| [(255.0 * share(from_middle(x, y))).round() as u8; 3]);
        let path = folder.join(name).with_extension("png");
        image::write(&mask, &path)?;
        for soft in SOFT {
            let shown = |x: usize, y: usize| mix(before.at(x, y), [255, 0, 255], share(from_middle(x, y)) * 0.6);
            let mut row = vec![Image::paint(SIDE, SIDE, shown)];
            for fill in FILLS {
                let output = folder.join(format!("{name}-{soft}-{fill}.png"));
                let (mask, before) = (path.display().to_string(), folder.join("before.png").display().to_string());
                let how = ["--strength", "0.75", "--mask-blur", "0", "--inpaint-fill", fill, "--soft", soft];
                let flags = [&["img2img", &before, "--mask", &mask, "--prompt", ANEW], &how[..]].concat();
                row.push(drawn(&forge, &output, &flags)?);
            }
            rows.push(row);
        }
    }
    image::write(&lay_out(&rows), &root().join(SHEET))?;
    println!("wrote {SHEET}");
    Ok(())
}

fn from_middle(x: usize, y: usize) -> f32 {
    let middle = (SIDE as f32 - 1.0) / 2.0;
    (x as f32 - middle).hypot(y as f32 - middle)
}

fn drawn(forge: &Path, output: &PathBuf, flags: &[&str]) -> Result<Image<3>, Box<dyn Error>> {
    let [command, flags @ ..] = flags else { return Err("a command has a name".into()) };
    let mut run = Command::new(forge);
    run.arg(command).arg("--config").arg(root().join("sd.toml")).args(["--compute", "f32", "--seed", "42", "--output"]);
    let ran = run.arg(output).args(flags).output()?;
    if !ran.status.success() {
        return Err(format!("`{}`: {}", output.display(), String::from_utf8_lossy(&ran.stderr)).into());
    }
    Ok(image::read(output)?.opaque())
}

/// Rows of pictures with a line between them.
fn lay_out(rows: &[Vec<Image<3>>]) -> Image<3> {
    let columns = rows.first().map_or(0, Vec::len);
    let side = |count: usize| count * (SIDE + GAP) + GAP;
    Image::paint(side(columns), side(rows.len()), |x, y| {
        let place = |at: usize| {
            let at = at.checked_sub(GAP)?;
            (at % (SIDE + GAP) < SIDE).then_some((at / (SIDE + GAP), at % (SIDE + GAP)))
        };
        let ((column, x), (row, y)) = match (place(x), place(y)) {
            (Some(across), Some(down)) => (across, down),
            _ => return [255; 3],
        };
        rows.get(row).and_then(|row| row.get(column)).map_or([255; 3], |picture| picture.at(x, y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_stands_in_its_row_and_column() {
        let grey = |level| Image::paint(SIDE, SIDE, move |_, _| [level; 3]);
        let sheet = lay_out(&[vec![grey(1), grey(2)], vec![grey(3), grey(4)]]);
        assert_eq!((sheet.width, sheet.height), (274, 274));
        let middle = |column: usize, row: usize| sheet.at(GAP + column * 134 + 64, GAP + row * 134 + 64)[0];
        assert_eq!([middle(0, 0), middle(1, 0), middle(0, 1), middle(1, 1)], [1, 2, 3, 4]);
        assert_eq!([sheet.at(0, 0), sheet.at(137, 10)], [[255; 3]; 2]);
    }
}
