//! `cargo xtask hires-sheets`: second passes of the demo models by each upscaler, docs/hires.png, and a second model that takes over sooner or
//! later, docs/refiner.png.
//!
//! Every picture is the release binary's; docs/hires.md tells the columns and rows.

use std::error::Error;

use crate::image::Image;
use crate::sheet::{self, Drawer};
use crate::{Done, root};

const COLUMNS: usize = 5;

const SD: &str = "sd.toml";

/// The models, by their configs.
const CONFIGS: [&str; 2] = [SD, "flux.toml"];

const SCALE: &str = "1.5";
/// As large as the second pass at once.
const SIDE: &str = "192";
const STRENGTH: &str = "0.2";

const UPSCALERS: [&str; 8] = [
    "latent",
    "latent-antialiased",
    "latent-bicubic",
    "latent-bicubic-antialiased",
    "latent-nearest",
    "latent-nearest-exact",
    "nearest",
    "lanczos",
];

const SUBJECT: &str = "a cat face on a yellow background";

/// What the refiner's sheet shows, a row for each.
const SUBJECTS: [&str; 2] = [SUBJECT, "a red apple on a blue background"];

/// Behind which share of the steps the second model takes over.
const SWITCHES: [&str; 4] = ["1", "0.8", "0.6", "0"];

/// In which passes it does.
const PASSES: [&str; 3] = ["first", "second", "both"];

pub(crate) fn run(flags: &[&str]) -> Done {
    let drawer = Drawer::of("hires-sheets", flags)?;
    hires(&drawer)?;
    refiner(&drawer)
}

fn hires(drawer: &Drawer) -> Done {
    let mut rows = Vec::new();
    for config in CONFIGS {
        let draw = |name: &str, flags: &[&str]| {
            let command = [&["txt2img", "--prompt", SUBJECT], flags].concat();
            drawer.draw(&format!("{}-{name}", config.trim_end_matches(".toml")), config, &command)
        };
        let mut pictures = vec![draw("off", &[])?, draw("at-once", &["--width", SIDE, "--height", SIDE])?];
        for upscaler in UPSCALERS {
            let how = ["--hires-scale", SCALE, "--hires-strength", STRENGTH, "--hires-upscaler", upscaler];
            pictures.push(draw(upscaler, &how)?);
        }
        rows.extend(pictures.chunks(COLUMNS).map(<[_]>::to_vec));
    }
    sheet::write(&rows, "docs/hires.png")
}

fn refiner(drawer: &Drawer) -> Done {
    let models = root().join("fixtures/models");
    let lora = models.join("lora-ink-sd-kohya.safetensors").display().to_string();
    let flags = ["--type", "f32", "--lora", &lora];
    let second = drawer.convert(&models.join("sd-demo.safetensors"), "second.safetensors", &flags)?;
    let second = second.display().to_string();
    let refined = |name: &str, subject: &str, at: &str, more: &[&str]| -> Result<Image<3>, Box<dyn Error>> {
        let how = ["txt2img", "--prompt", subject, "--refiner", &second, "--refiner-switch-at", at];
        drawer.draw(name, SD, &[&how, more].concat())
    };
    let mut rows = Vec::new();
    for (number, subject) in SUBJECTS.iter().enumerate() {
        let at = |at: &&str| refined(&format!("refined-{number}-{at}"), subject, at, &[]);
        rows.push(SWITCHES.iter().map(at).collect::<Result<Vec<_>, _>>()?);
    }
    let twice = ["--hires-scale", SCALE, "--hires-strength", STRENGTH, "--hires-upscaler", "lanczos"];
    let mut row = vec![refined("twice-without", SUBJECT, "1", &twice)?];
    for passes in PASSES {
        let more = [&twice[..], &["--refiner-passes", passes]].concat();
        row.push(refined(&format!("twice-{passes}"), SUBJECT, "0.6", &more)?);
    }
    rows.push(row);
    sheet::write(&rows, "docs/refiner.png")
}
