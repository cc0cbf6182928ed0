//! `forge replay`: a picture is drawn again from its text, and compared with what it was.

use std::path::{Path, PathBuf};

use diffusion_engine::{Cancel, Catalog, Error as RunError, Event, Image, Likeness, family::work};
use forge::{Config, Forge, ModelHash, Noise, Outputs, Pictures, Replay, Threads, model_hash};

use super::{args::ReplayArgs, overrides::read_again, term::Reporter, txt2img};
use crate::{
    caches,
    error::{Error, Result},
    signals::Interrupt,
};

pub(super) fn run(registry: &Catalog, args: &ReplayArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let picture = read_again("IMAGE", &args.picture)?;
    let replay = Replay::of(&picture, registry)?;
    let run = args.as_txt2img();
    let mut config = run.config()?;
    let mut notes = run.override_keys(&mut config, registry)?;
    // The text says where the noise came from, unless that was a file.
    if !(replay.given_noise && matches!(config.sampling.noise, Some(Noise::File(_)))) {
        config.sampling.noise = None;
    }
    let replay = replay.with_pictures_of(&config)?;
    let outputs = args.writes().then(|| {
        let read = [run.other_files()?, vec![picture.clone()]].concat();
        let outputs = Outputs::of(&config, &replay.request, None, &read)?;
        if let Pictures::StandardOutput = outputs.pictures {
            txt2img::standard_output_is_free(args.json)?;
        }
        outputs.hold(&replay.request, registry.knobs())?;
        Ok::<_, Error>(outputs)
    });
    let outputs = outputs.transpose()?;
    let threads = Threads::start(config.device.threads);
    notes.extend(threads.note());
    notes.extend(replay.of_text().iter().map(ToString::to_string));
    let mut reporter = Reporter::new(args.json);
    notes.into_iter().for_each(|note| reporter.event(&Event::Note { note }));
    reporter.begin("load");
    let forge = Forge::load_on(&config, threads)?;
    let image = drawn(&config, &replay, &forge, &interrupt, &mut reporter)?;
    // A picture whose folder can't be synced is there: that is told in the end.
    let written = match &outputs {
        Some(outputs) => write(&image, replay.request.seed, &outputs.pictures, &mut reporter)?,
        None => Ok(()),
    };
    // The process ends with the run: the system takes the model back at once.
    std::mem::forget(forge);
    let likeness = image.likeness(&picture)?;
    let is_taken = outputs.is_some_and(|outputs| matches!(outputs.pictures, Pictures::StandardOutput));
    reporter.compared(&picture, likeness, image.width * image.height, is_taken)?;
    reporter.finish()?;
    written?;
    match likeness {
        Likeness::Equal | Likeness::Lossy => Ok(()),
        Likeness::Differs { .. } | Likeness::OtherSize { .. } => {
            Err(Error::NotTheSame { picture, likeness, pixels: image.width * image.height })
        }
    }
}

/// The picture, as the opened model draws it.
fn drawn(
    config: &Config,
    replay: &Replay,
    forge: &Forge,
    interrupt: &Interrupt,
    reporter: &mut Reporter,
) -> Result<Image> {
    let job = config.job_of(replay.request.clone())?;
    // What differs is told before the work, although a file that was never seen has to be read for that.
    let said = &replay.made_with;
    let [model, vae, refiner] =
        [(forge.file(), &said.model), (forge.vae(), &said.vae), (forge.refiner(), &said.refiner)]
            .map(|(file, said)| hash(file.filter(|_| said.hash.is_some())));
    for difference in replay.of_model(forge, [&model, &vae, &refiner].map(Option::as_ref)) {
        reporter.event(&Event::Note { note: difference.to_string() });
    }
    Event::planned(&forge.plan_all([&job])?).iter().for_each(|event| reporter.event(event));
    let mut run = forge.start_until(job, interrupt.cancel())?;
    reporter.event(&Event::Loaded { model: forge.name().to_owned(), device: forge.device() });
    forge.notes().iter().for_each(|note| reporter.event(&Event::Note { note: note.to_string() }));
    model.iter().for_each(|hash| run.set_model_hash(hash));
    vae.iter().for_each(|hash| run.set_vae_hash(hash));
    refiner.iter().for_each(|hash| run.set_refiner_hash(hash));
    reporter.begin("encode");
    for event in &mut run {
        let event = event?;
        reporter.event(&event);
        if let Event::Encoded { .. } = event {
            reporter.begin("sample");
        }
    }
    reporter.begin("decode");
    let image = run.image()?;
    reporter.event(&Event::Decoded);
    reporter.event(&Event::Memory(run.memory().report(work::DECODE)));
    Ok(image)
}

/// A file that can't be read has no hash, and is told for that where the model is loaded from it.
///
/// A signal ends the process meanwhile, as there is no run to stop yet.
fn hash(file: Option<&Path>) -> Option<ModelHash> {
    model_hash(file.filter(|file| file.is_file())?, caches::hashes().as_deref(), &Cancel::default()).ok()
}

/// Writes the picture; where it is written, but its folder can't be synced, that is inside.
fn write(image: &Image, seed: u64, pictures: &Pictures, reporter: &mut Reporter) -> Result<Result<()>> {
    let mut written = Ok(());
    let path = match pictures {
        Pictures::Files(pattern) => {
            let path = pattern.path(seed, 0);
            match image.save_as(&path, pattern.format()) {
                Err(error @ RunError::Unsynced { .. }) => written = Err(error.into()),
                saved => saved?,
            }
            path
        }
        Pictures::StandardOutput => {
            txt2img::to_standard_output(image)?;
            PathBuf::from("standard output")
        }
    };
    reporter.event(&Event::Image { path, width: image.width, height: image.height, seed });
    Ok(written)
}
