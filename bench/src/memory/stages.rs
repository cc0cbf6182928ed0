//! What each stage of a run takes beside what its plan says, in the shapes of published models.
//!
//! The files have no numbers but zeros, which take as much memory as any others.

use std::{error::Error, path::Path, sync::Arc};

use forge::{
    ComputeChoice, Config, Enlarger, Event, Forge, HiresUpscaler, Job, Size, ThreadCount, Threads, Txt2Img,
    diffusion_engine::{
        Area, Cancel, Fill, Filter, FromPictures, Inpaint, Origin, Pass, Picture, Raster, Soft, SoftSettings, Upscaler,
        family::work,
    },
    samplers::Value,
};
use serde_json::json;

use crate::{HEAP, cases, process, shapes::sparse};

type Change = fn(&mut Config, &Path) -> Result<(), Box<dyn Error>>;

/// A run whose stages are told.
struct Staged {
    name: &'static str,
    /// What it asks for beside a picture of a size; the folder is that of the models' files.
    change: Change,
    start: Start,
}

/// What it begins with.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Noise,
    Picture,
    Masked,
}

/// Those of Stable Diffusion 1.5.
const SD: [Staged; 15] = [
    Staged { name: "txt2img", change: |_, _| Ok(()), start: Start::Noise },
    Staged {
        name: "txt2img with cfg",
        change: |config, _| {
            config.sampling.cfg = 7.0.into();
            Ok(())
        },
        start: Start::Noise,
    },
    Staged { name: "img2img", change: |_, _| Ok(()), start: Start::Picture },
    Staged { name: "soft inpainting", change: |_, _| Ok(()), start: Start::Masked },
    Staged {
        name: "hires of latents",
        change: |config, _| twice(config, HiresUpscaler::default()),
        start: Start::Noise,
    },
    Staged {
        name: "hires of pixels",
        change: |config, _| twice(config, HiresUpscaler::Plain(Upscaler::Picture(Filter::Lanczos))),
        start: Start::Noise,
    },
    Staged {
        name: "hires by a network",
        change: |config, folder| {
            let network = sparse(NETWORK, folder)?;
            twice(config, HiresUpscaler::File(network))
        },
        start: Start::Noise,
    },
    Staged {
        name: "a refiner",
        change: |config, _| {
            config.refiner.checkpoint.clone_from(&config.model.checkpoint);
            config.refiner.switch_at = 0.5;
            config.sampling.steps = 2;
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "previews of latents",
        change: |config, _| {
            config.preview.file = Some("preview.png".into());
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "previews by a tiny decoder",
        change: |config, folder| {
            config.preview.file = Some("preview.png".into());
            config.preview.decoder = Some(sparse("taesd.decoder", folder)?);
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "first-block cache with cfg",
        change: |config, _| {
            config.sampling.cfg = 7.0.into();
            config.sampling.steps = 2;
            config.knobs.set("first_block", Value::Number(0.1));
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "sag with cfg",
        change: |config, _| {
            config.sampling.cfg = 3.0.into();
            config.knobs.set("sag", Value::Number(0.7));
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "pag with cfg",
        change: |config, _| {
            config.sampling.cfg = 3.0.into();
            config.knobs.set("pag", Value::Number(3.0));
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "tiled diffusion",
        change: |config, _| {
            let tile = (config.image.width as f64 * 0.75).round();
            config.knobs.set("tiles", Value::Number(tile));
            Ok(())
        },
        start: Start::Noise,
    },
    Staged { name: "four by a Brownian path", change: by_a_path, start: Start::Noise },
];

/// Those of Flux dev, one block of each kind deep.
const FLUX: [Staged; 7] = [
    Staged { name: "flux, four by a Brownian path", change: by_a_path, start: Start::Noise },
    Staged { name: "flux", change: |_, _| Ok(()), start: Start::Noise },
    Staged {
        name: "flux in bf16",
        change: |config, _| {
            config.device.compute = ComputeChoice::Auto;
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "flux in integers",
        change: |config, _| {
            config.device.compute = ComputeChoice::Integers;
            Ok(())
        },
        start: Start::Noise,
    },
    Staged {
        name: "flux with cfg, four at once",
        change: |config, _| {
            (config.sampling.cfg, config.image.batch) = (3.0.into(), 4);
            Ok(())
        },
        start: Start::Noise,
    },
    Staged { name: "flux img2img", change: |_, _| Ok(()), start: Start::Picture },
    Staged {
        name: "flux first-block cache",
        change: |config, _| {
            config.sampling.steps = 3;
            config.knobs.set("first_block", Value::Number(0.1));
            Ok(())
        },
        start: Start::Noise,
    },
];

/// Four pictures whose sampler draws noise.
fn by_a_path(config: &mut Config, _: &Path) -> Result<(), Box<dyn Error>> {
    config.sampling.sampler = "dpmpp_2m_sde".into();
    (config.image.batch, config.sampling.steps) = (4, 2);
    Ok(())
}

const NETWORK: &str = "realesrgan-x4plus-anime-6b";

/// Half of the size in the first pass, and the size in the second.
fn twice(config: &mut Config, upscaler: HiresUpscaler) -> Result<(), Box<dyn Error>> {
    config.image.width /= 2;
    config.image.height /= 2;
    config.hires.scale = Some(2.0);
    config.hires.steps = Some(1);
    config.hires.upscaler = upscaler;
    Ok(())
}

/// Prints a line for each stage of each run of this size whose name holds `filter`, of decoding only where that is asked for: it takes the
/// longest, and is the same after most.
pub(crate) fn told(side: usize, filter: &str, decodes: bool) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let is_asked = |staged: &&Staged| staged.name.contains(filter);
    let of_sd = SD.iter().filter(is_asked).map(|staged| (staged, cases::real("sd15.ldm", folder.path())));
    let of_flux = FLUX.iter().filter(is_asked).map(|staged| (staged, cases::shallow("flux1-dev.bfl", folder.path())));
    for (staged, config) in of_sd.chain(of_flux) {
        let mut config = config?;
        // Beside each other threads take more than one alone.
        config.device.threads = ThreadCount::new(2)?;
        (config.image.width, config.image.height) = (side, side);
        (config.sampling.steps, config.sampling.cfg) = (1, 1.0.into());
        config.prompt.positive = "a cat".into();
        (staged.change)(&mut config, folder.path())?;
        run(staged, &config, side, decodes)?;
    }
    if "upscale".contains(filter) {
        upscale(folder.path(), side)?;
    }
    Ok(())
}

fn run(staged: &Staged, config: &Config, side: usize, decodes: bool) -> Result<(), Box<dyn Error>> {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let taken = || {
        let taken = HEAP.peak_usage().saturating_sub(before) as u64;
        HEAP.reset_peak_usage();
        taken
    };
    let forge = Forge::load(config)?;
    let mut run = forge.start(job(config, staged.start)?)?;
    let memory = run.memory();
    let fixed = process(memory.plan());
    let print = |stage: &str, planned: u64| {
        let line = json!({
            "case": format!("{} {side}", staged.name), "stage": stage, "planned": planned.saturating_sub(fixed), "taken": taken(),
        });
        println!("{line}");
    };
    while let Some(event) = run.next() {
        match event? {
            Event::Memory(report) => print(&report.stage, report.planned.0),
            Event::Step(_) if config.preview.file.is_some() => drop(run.preview().image()?),
            _ => {}
        }
    }
    if !decodes {
        return Ok(());
    }
    run.into_images()?;
    print(work::DECODE, memory.report(work::DECODE).planned.0);
    Ok(())
}

fn job(config: &Config, start: Start) -> Result<Job, Box<dyn Error>> {
    let size = Size { width: config.image.width, height: config.image.height };
    let pixels = size.width * size.height;
    let request: Txt2Img = config.request(|| 7)?;
    let request = match start {
        Start::Noise => request,
        Start::Picture | Start::Masked => {
            let picture = Raster::new(size, vec![[128; 3]; pixels]).ok_or("a raster of its size")?;
            let mask = || Raster::new(size, vec![[255; 4]; pixels]).ok_or("a mask of its size");
            let inpaint = (start == Start::Masked).then(mask).transpose()?.map(|mask| Inpaint {
                mask: Arc::new(mask),
                blur: 4.0,
                round: false,
                invert: false,
                fill: Fill::Original,
                area: Area::Whole,
                hidden: 1.0,
                soft: Some(Soft::Blended(SoftSettings::default())),
            });
            let from = FromPictures { strength: 1.0, inpaint, ..FromPictures::of(picture) };
            request.with(|pass: &mut Pass| pass.start = Origin::Pictures(Arc::new(from)))
        }
    };
    Ok(Job::of(request)?)
}

/// A picture made four times as wide and high, to a size.
fn upscale(folder: &Path, side: usize) -> Result<(), Box<dyn Error>> {
    let path = sparse(NETWORK, folder)?;
    let from = Size { width: side / 4, height: side / 4 };
    let picture = Picture {
        width: from.width,
        height: from.height,
        pixels: vec![128; from.width * from.height * 3],
        opacity: None,
    };
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let threads = Threads::start(ThreadCount::new(2)?);
    let enlarger = Enlarger::open(&path, &Config::default(), threads)?;
    let plan = enlarger.plan(&picture, None)?;
    let larger = enlarger.enlarge(&picture, None, &Cancel::default(), &|_, _| {})?;
    let taken = HEAP.peak_usage().saturating_sub(before) as u64;
    drop(larger);
    let planned = plan.total().0.saturating_sub(process(&plan));
    println!(
        "{}",
        json!({ "case": format!("upscale {side}"), "stage": work::ENLARGE, "planned": planned, "taken": taken })
    );
    Ok(())
}
