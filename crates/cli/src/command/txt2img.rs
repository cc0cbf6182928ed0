//! `forge txt2img`: config and flags become a request, the request a run, the run pictures.

use std::{
    io::{IsTerminal, Write, stdout},
    path::PathBuf,
};

use core_tensor::Latent;
use diffusion_engine::{Error as RunError, Image, PlainWords, Txt2Img};
use samplers::Registry;

use super::{
    args::Txt2ImgArgs,
    term::{Event, Reporter},
};
use forge::{Config, Forge, Noise, Outputs, Pictures, Threads, dump, noise_file};

use crate::{
    error::{Error, Result},
    out_of_memory::unbuffered_stdout,
    signals::Interrupt,
};

pub fn run(registry: &Registry, args: &Txt2ImgArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let mut config = args.config()?;
    let mut notes = args.override_keys(&mut config, registry)?;
    let request = config.request_with(registry, random_seed)?.checked()?;
    let outputs = Outputs::of(&config, &request, args.dump_file()?, &args.other_files()?)?;
    if let Pictures::StandardOutput = outputs.pictures {
        standard_output_is_free(args.json)?;
    }
    let noise = match &config.sampling.noise {
        Some(Noise::Source(_)) | None => None,
        Some(Noise::File(path)) => Some(noise_file(path, &request)?),
    };
    notes.extend(Threads::start(config.device.threads)?.note());
    notes.extend(plain_words(&request));
    draw(Job { registry, config: &config, request, outputs: &outputs, noise, notes, json: args.json, interrupt })
}

struct Job<'a> {
    registry: &'a Registry,
    config: &'a Config,
    request: Txt2Img,
    outputs: &'a Outputs,
    noise: Option<Latent>,
    notes: Vec<String>,
    json: bool,
    interrupt: Interrupt,
}

fn draw(job: Job) -> Result<()> {
    let Job { registry, config, request, outputs, noise, notes, json, interrupt } = job;
    let mut reporter = Reporter::new(json);
    notes.iter().for_each(|note| reporter.event(&Event::Note { note }));
    reporter.begin("load");
    let mut forge = Forge::load_with(config, registry)?;
    reporter.event(&Event::Loaded { model: forge.name() });
    forge.notes().iter().for_each(|note| reporter.event(&Event::Note { note: &note.to_string() }));
    reporter.begin("encode");
    let seed = request.seed;
    let mut run = match noise {
        Some(noise) => forge.txt2img_from(request, noise)?,
        None => forge.txt2img(request)?,
    };
    reporter.event(&Event::Encoded { cut: &run.positive().cut });

    let steps = run.sigmas().steps();
    let go_on = |step| if interrupt.came() { Err(Error::Interrupted { step, steps }) } else { Ok(()) };
    go_on(0)?;
    reporter.begin("sample");

    let mut latents = Vec::new();
    while let Some(step) = run.next() {
        let step = step?;
        reporter.event(&Event::Step(step));
        if outputs.dump.is_some() {
            latents.push(run.latent().clone());
        }
        go_on(step.step)?;
    }
    reporter.begin("decode");
    let images = run.images()?;
    reporter.event(&Event::Decoded);
    go_on(steps)?;
    // A picture whose folder can't be synced is there, and so are those after it: that is told when all are.
    let mut unsynced: Result<()> = Ok(());
    for (index, image) in images.iter().enumerate() {
        let seed = seed.wrapping_add(index as u64);
        let path = match &outputs.pictures {
            Pictures::Files(pattern) => pattern.path(seed, index),
            Pictures::StandardOutput => {
                to_standard_output(image)?;
                PathBuf::from("standard output")
            }
        };
        if let Pictures::Files(_) = outputs.pictures {
            match image.save(&path) {
                Err(error @ RunError::Unsynced { .. }) => unsynced = unsynced.and(Err(error.into())),
                saved => saved?,
            }
        }
        reporter.event(&Event::Image { path: &path, width: image.width, height: image.height, seed });
    }
    if let Some(path) = &outputs.dump {
        dump(&run, &latents, path)?;
    }
    unsynced?;
    reporter.finish()
}

fn standard_output_is_free(json: bool) -> Result<()> {
    if json {
        return Err(Error::StandardOutputTaken { user: "together with `--json`" });
    }
    if stdout().is_terminal() {
        return Err(Error::StandardOutputTaken { user: "where that is a terminal" });
    }
    Ok(())
}

fn to_standard_output(image: &Image) -> Result<()> {
    let mut png = Vec::new();
    let written = image.encode(&mut png).and_then(|()| unbuffered_stdout()?.write_all(&png));
    written.map_err(|source| forge::Error::Write { path: "standard output".into(), source: source.into() }.into())
}

/// What of a request has no effect, or another than its writer may think.
fn plain_words(request: &Txt2Img) -> Vec<String> {
    let counts = request.cfg > 1.0 || request.sampler.needs_negative;
    let ignored = (!request.negative.is_empty() && !counts)
        .then(|| "the negative prompt has no effect, as `cfg` is 1; it counts above 1".to_owned());
    let prompts = [Some(("prompt", &request.prompt)), counts.then_some(("negative prompt", &request.negative))];
    let words = prompts.into_iter().flatten().flat_map(|(which, prompt)| {
        PlainWords::of(prompt).into_iter().map(move |PlainWords { syntax, text }| {
            format!("`{text}` of the {which} is drawn as plain words: {syntax}")
        })
    });
    words.chain(ignored).collect()
}

/// The number that stands for `random`: A1111 and its relatives draw from 32 bits too.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}
