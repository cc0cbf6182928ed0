//! `cargo xtask inpaint-sheet`: a part of a demo picture drawn anew, under each mask, with each fill, softly and not.
//!
//! Every picture is the release binary's, by `forge img2img`; docs/inpainting.md tells the columns and rows.

use crate::Done;
use crate::image::{self, Image, mix};
use crate::sheet::{self, Drawer};

const SHEET: &str = "docs/inpaint.png";
const CONFIG: &str = "sd.toml";
const SIDE: usize = 128;

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
    let drawer = Drawer::of("inpaint-sheet", flags)?;
    let before = drawer.draw("before", CONFIG, &["txt2img", "--prompt", BEFORE])?;
    let input = drawer.path("before.png").display().to_string();
    let mut rows = Vec::new();
    for (name, share) in MASKS {
        let mask = Image::paint(SIDE, SIDE, |x, y| [(255.0 * share(from_middle(x, y))).round() as u8; 3]);
        let path = drawer.path(name).with_extension("png");
        image::write(&mask, &path)?;
        for soft in SOFT {
            let shown = |x: usize, y: usize| mix(before.at(x, y), [255, 0, 255], share(from_middle(x, y)) * 0.6);
            let mut row = vec![Image::paint(SIDE, SIDE, shown)];
            for fill in FILLS {
                let mask = path.display().to_string();
                let how = ["--strength", "0.75", "--mask-blur", "0", "--inpaint-fill", fill, "--soft", soft];
                let command = [&["img2img", &input, "--mask", &mask, "--prompt", ANEW], &how[..]].concat();
                row.push(drawer.draw(&format!("{name}-{soft}-{fill}"), CONFIG, &command)?);
            }
            rows.push(row);
        }
    }
    sheet::write(&rows, SHEET)
}

fn from_middle(x: usize, y: usize) -> f32 {
    let middle = (SIDE as f32 - 1.0) / 2.0;
    (x as f32 - middle).hypot(y as f32 - middle)
}
