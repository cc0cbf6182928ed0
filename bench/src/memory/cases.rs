//! What is measured: models, sizes, batches, number formats and ceilings.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use forge::{ComputeChoice, Config, samplers::Value};

use crate::shapes::{self, sparse};

/// A run.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Config,
    /// Whether it has no more memory than the least that its plan asks for.
    pub(crate) tight: bool,
    pub(crate) taken: Taken,
}

/// What is told of it.
pub(crate) enum Taken {
    /// Its plan, and what it takes.
    Run,
    /// Its plan alone.
    Planned,
}

/// Changes that make a case of a model's config.
type Change = fn(&mut Config);

/// What tiny models are run with.
const RUNS: [(&str, &str, Change); 19] = [
    ("flux-dev 64", "tiny-dev", |_| {}),
    ("flux-dev 64 bf16", "tiny-dev", |c| c.device.compute = bf16()),
    ("flux-dev 64 x8", "tiny-dev", |c| c.image.batch = 8),
    ("flux-dev 512", "tiny-dev", |c| side(c, 512)),
    ("flux-dev 512 x4", "tiny-dev", |c| {
        side(c, 512);
        c.image.batch = 4;
    }),
    ("flux-dev t5 2048", "tiny-dev", |c| tokens(c, 2048)),
    ("flux-dev t5 4096", "tiny-dev", |c| tokens(c, 4096)),
    ("flux-dev prompt of 64 kB", "tiny-dev", |c| c.prompt.positive = "a fox, ".repeat(9_000)),
    ("flux-dev hires", "tiny-dev", |c| {
        side(c, 256);
        c.hires.scale = Some(2.0);
    }),
    ("flux-gguf 512 integers", "tiny-gguf", |c| {
        side(c, 512);
        c.device.compute = ComputeChoice::Integers;
    }),
    ("flux-schnell 1024", "tiny-schnell", |c| side(c, 1024)),
    ("sd-1 512", "sd-1", |c| side(c, 512)),
    ("sd-1 512 x4", "sd-1", |c| {
        side(c, 512);
        c.image.batch = 4;
    }),
    ("sd-1 512 bf16", "sd-1", |c| {
        side(c, 512);
        c.device.compute = bf16();
    }),
    ("sd-1 prompt of 64 kB", "sd-1", |c| c.prompt.positive = "a fox, ".repeat(9_000)),
    ("sd-1 hires pixels", "sd-1", |c| {
        side(c, 256);
        c.hires.scale = Some(2.0);
        c.hires.upscaler = pixels();
    }),
    ("sd-xl 512", "sd-xl", |c| side(c, 512)),
    ("flux-demo 256", "demo", |c| side(c, 256)),
    ("flux-demo 256 x2", "demo", |c| {
        side(c, 256);
        c.image.batch = 2;
    }),
];

/// Runs that have the least memory of their plans.
const TIGHT: [&str; 3] = ["flux-dev 512", "sd-1 512", "flux-demo 256"];

/// Real models, of whose checkpoints the shapes are known.
const PLANS: [(&str, usize, usize); 6] = [
    ("sd15.ldm", 512, 1),
    ("sd15.ldm", 1024, 4),
    ("sdxl-base.ldm", 1024, 1),
    ("flux1-dev.bfl", 512, 1),
    ("flux1-dev.bfl", 1024, 1),
    ("flux1-dev.bfl", 1024, 4),
];

/// All cases; the files of real models lie in `folder`.
pub(crate) fn cases(folder: &Path) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut all = Vec::new();
    for (name, model, change) in RUNS {
        let mut config = golden(model)?;
        change(&mut config);
        if TIGHT.contains(&name) {
            all.push(Case { name: format!("{name} tight"), config: config.clone(), tight: true, taken: Taken::Run });
        }
        all.push(Case { name: name.to_owned(), config, tight: false, taken: Taken::Run });
    }
    for (list, size, batch) in PLANS {
        let mut config = real(list, folder)?;
        side(&mut config, size);
        config.image.batch = batch;
        let of_batch = if batch > 1 { format!(" x{batch}") } else { String::new() };
        let name = format!("{list} {size}{of_batch} planned");
        all.push(Case { name, config, tight: false, taken: Taken::Planned });
    }
    Ok(all)
}

/// The config of a tiny model, or of the demo, with two steps on one thread in f32.
pub(crate) fn golden(model: &str) -> Result<Config, Box<dyn Error>> {
    let path = match model {
        "demo" => fixtures::path("../flux.toml"),
        other => fixtures::path("golden").join(other).join("case.toml"),
    };
    let mut config = Config::read(&path)?;
    computed(&mut config)?;
    side(&mut config, 64);
    config.sampling.steps = 2;
    Ok(config)
}

/// The smallest run of a config.
pub(crate) fn small(config: &Config) -> Config {
    let mut config = config.clone();
    side(&mut config, 16);
    config.sampling.steps = 1;
    config
}

/// The files of a published model.
pub(crate) fn real(list: &str, folder: &Path) -> Result<Config, Box<dyn Error>> {
    of_files(list, &|list| sparse(list, folder))
}

/// The same, one block of each kind deep.
pub(crate) fn shallow(list: &str, folder: &Path) -> Result<Config, Box<dyn Error>> {
    let folder = folder.join("shallow");
    std::fs::create_dir_all(&folder)?;
    of_files(list, &|list| shapes::shallow(list, &folder))
}

type Written = Result<PathBuf, Box<dyn Error>>;

fn of_files(list: &str, file: &dyn Fn(&str) -> Written) -> Result<Config, Box<dyn Error>> {
    let mut config = Config::default();
    computed(&mut config)?;
    let file = |list: &str| file(list).map(Some);
    if list.starts_with("flux") {
        config.model.transformer = file(list)?;
        (config.model.clip, config.model.t5) = (file("clip-l.flux.hf")?, file("t5xxl-encoder.hf")?);
        config.model.vae = file("flux-ae.bfl")?;
    } else {
        config.model.checkpoint = file(list)?;
    }
    Ok(config)
}

fn computed(config: &mut Config) -> Result<(), Box<dyn Error>> {
    config.device.compute = ComputeChoice::F32;
    config.device.threads = forge::ThreadCount::new(1)?;
    Ok(())
}

/// bf16 where the CPU has it; else the case is that of f32.
fn bf16() -> ComputeChoice {
    ComputeChoice::Auto
}

fn pixels() -> forge::HiresUpscaler {
    let lanczos = forge::diffusion_engine::Upscaler::Picture(forge::diffusion_engine::Filter::Lanczos);
    forge::HiresUpscaler::Plain(lanczos)
}

fn side(config: &mut Config, side: usize) {
    (config.image.width, config.image.height) = (side, side);
}

fn tokens(config: &mut Config, tokens: usize) {
    config.knobs.set("t5_length", Value::Number(tokens as f64));
}
