//! `forge txt2img`: config and flags become a request, the request a run, the run pictures.

use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write, stdout},
    path::{Path, PathBuf},
};

use diffusion_engine::{
    Area, Cancel, Catalog, Error as RunError, Event, Image, Job, Origin, PictureFormat, PlainWords, Size, Syntax,
    Txt2Img, end_weight, family::work,
};

use super::{args::Txt2ImgArgs, live::Live, term::Reporter};
use forge::{Config, Forge, MemoryWatch, Outputs, Pictures, Threads, dump, memory::Plan};

use crate::{
    error::{Error, Result},
    hashing::Hashing,
    signals::Interrupt,
    standard_output::{unbuffered_stdout, words_go_there},
};

pub(super) fn run(registry: &Catalog, args: &Txt2ImgArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let mut config = args.config()?;
    let mut notes = args.override_keys(&mut config, registry)?;
    let pictures = [("img2img.image", config.img2img.image.take()), ("inpaint.mask", config.inpaint.mask.take())];
    let set_aside = pictures.into_iter().filter(|(_, path)| path.is_some());
    notes.extend(set_aside.map(|(key, _)| {
        format!("the config's `{key}` is set aside, as `txt2img` draws from words alone; `forge img2img` reads it")
    }));
    draw_one(registry, args, config, notes, &interrupt)
}

/// Draws what a config asks for, with what of the command line is no key of it.
pub(super) fn draw_one(
    registry: &Catalog,
    args: &Txt2ImgArgs,
    config: Config,
    mut notes: Vec<String>,
    interrupt: &Interrupt,
) -> Result<()> {
    let asked = Asked::by(registry, args, &config)?;
    let threads = Threads::start(config.device.threads);
    notes.extend(threads.note());
    notes.extend(asked.notes.clone());
    let mut drawing = Drawing::begin(&config, threads, notes, args.json, interrupt.cancel())?;
    drawing.draw(asked, &config, true)?;
    drawing.finish()
}

/// The job of a request, whose latents are kept where they are dumped.
pub(super) fn job(config: &Config, request: Txt2Img, dumps: bool) -> Result<Job> {
    let job = config.job_of(request)?;
    Ok(if dumps { job.keeping_latents() } else { job })
}

/// Those of the jobs of one config that no other has the words of: they differ in their seeds alone otherwise, and take the same.
pub(super) fn of_other_words(jobs: &[Job]) -> Vec<&Job> {
    let words = |job: &&Job| -> Vec<[String; 2]> {
        job.passes().iter().map(|pass| [pass.prompt.clone(), pass.negative.clone()]).collect()
    };
    let mut known = BTreeSet::new();
    jobs.iter().filter(|job| known.insert(words(job))).collect()
}

/// What is drawn, and where it goes, once nothing speaks against it that can be told without the model.
pub(super) struct Asked {
    jobs: Vec<Job>,
    outputs: Outputs,
    /// What of it has no effect, or another than its writer may think.
    pub(super) notes: Vec<String>,
}

impl Asked {
    /// The size of the first run's pictures as they are saved, and the seed of the first one.
    pub(super) fn first(&self) -> Option<(Size, u64)> {
        let job = self.jobs.first()?;
        let (first, last) = (job.passes().first()?, job.passes().last()?);
        let own = match &first.start {
            // A part is put back into the picture that it is of.
            Origin::Pictures(from)
                if matches!(from.inpaint.as_ref().map(|inpaint| inpaint.area), Some(Area::Masked { .. })) =>
            {
                from.pictures.first()
            }
            Origin::Pictures(_) | Origin::Noise | Origin::Last(_) => None,
        };
        Some((own.map_or(last.size, |picture| picture.size()), job.seed()))
    }

    /// What it takes of memory, the largest first.
    pub(super) fn plan(&self, forge: &Forge) -> Result<Vec<Plan>> {
        Ok(forge.plan_all(of_other_words(&self.jobs))?)
    }

    /// Where it goes.
    pub(super) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// What a config asks for.
    pub(super) fn by(registry: &Catalog, args: &Txt2ImgArgs, config: &Config) -> Result<Self> {
        Self::to(registry, args, config, |request| {
            Ok(Outputs::of(config, request, args.dump_file()?, &args.other_files()?)?)
        })
    }

    /// The same where the pictures' names are no key's.
    pub(super) fn to(
        registry: &Catalog,
        args: &Txt2ImgArgs,
        config: &Config,
        outputs: impl FnOnce(&Txt2Img) -> Result<Outputs>,
    ) -> Result<Self> {
        let request = config.request_with(registry, random_seed)?.checked()?;
        let outputs = outputs(&request)?;
        if let Pictures::StandardOutput = outputs.pictures {
            standard_output_is_free(args.json)?;
        }
        let requests = config.requests_of(request)?;
        requests.iter().try_for_each(|request| outputs.hold(request, registry.knobs()))?;
        if requests.len() > 1 && outputs.dump.is_some() {
            let expected = "one run, as all of a dump is of one".to_owned();
            let found = format!("{} runs, one for each batch or prompt", requests.len());
            return Err(forge::Error::Value { key: "--dump".into(), expected, found }.into());
        }
        let notes = requests.first().into_iter().flat_map(|request| plain_words(request, config)).collect();
        let dumps = outputs.dump.is_some();
        let jobs = requests.into_iter().map(|request| job(config, request, dumps)).collect::<Result<_>>()?;
        Ok(Self { jobs, outputs, notes })
    }
}

/// A model at work, and what is told of it.
pub(super) struct Drawing {
    forge: Forge,
    reporter: Reporter,
    /// Of the model's files, once the first run has begun.
    hashes: Option<Hashing>,
    cancel: Cancel,
    /// A picture whose folder can't be synced is there, and so are those after it: that is told when all are.
    unsynced: Result<()>,
}

impl Drawing {
    pub(super) fn begin(
        config: &Config,
        threads: Threads,
        notes: Vec<String>,
        json: bool,
        cancel: Cancel,
    ) -> Result<Self> {
        let mut reporter = Reporter::new(json);
        notes.into_iter().for_each(|note| reporter.event(&Event::Note { note }));
        reporter.begin("load");
        let forge = Forge::load_on(config, threads)?;
        Ok(Self { forge, reporter, hashes: None, cancel, unsynced: Ok(()) })
    }

    /// Goes on with another model.
    pub(super) fn change_model(&mut self, config: &Config, threads: Threads) -> Result<()> {
        self.reporter.begin("load");
        self.hashes = None;
        self.forge.unload();
        self.forge = Forge::load_on(config, threads)?;
        Ok(())
    }

    /// Saves a picture that was put together of others.
    pub(super) fn save_sheet(&mut self, image: &Image, path: &Path, format: PictureFormat, seed: u64) -> Result<()> {
        save(image, path, format, &mut self.unsynced)?;
        let Image { width, height, .. } = *image;
        self.reporter.event(&Event::Image { path: path.to_owned(), width, height, seed });
        Ok(())
    }

    /// Tells what a person should know.
    pub(super) fn note(&mut self, note: String) {
        self.reporter.event(&Event::Note { note });
    }

    /// Draws and saves all pictures that are asked for; the last ones let the network go before they are decoded.
    pub(super) fn draw(&mut self, asked: Asked, config: &Config, are_last: bool) -> Result<()> {
        // None is begun where there is no room for the last.
        let planned = asked.plan(&self.forge)?;
        let Asked { jobs, outputs, notes: _ } = asked;
        let mut drawn = 0;
        let mut live = outputs.preview.as_deref().map(|path| Live::new(path, config.preview.every));
        Event::planned(&planned).iter().for_each(|event| self.reporter.event(event));
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let Self { forge, reporter, hashes, cancel, unsynced } = self;
            let seeds = job.seeds();
            let mut run = forge.start_until(job, cancel.clone())?;
            let hashes = hashes.get_or_insert_with(|| {
                reporter.event(&Event::Loaded { model: forge.name().to_owned(), device: forge.device() });
                forge.notes().iter().for_each(|note| reporter.event(&Event::Note { note: note.to_string() }));
                Hashing::of(forge, cancel)
            });
            reporter.begin("encode");
            let mut latents = Vec::new();
            while let Some(event) = run.next() {
                let event = event?;
                reporter.event(&event);
                match event {
                    Event::Encoded { .. } => reporter.begin("sample"),
                    Event::Step(_) if outputs.dump.is_some() => latents.push(run.latent().clone()),
                    _ => {}
                }
                let note = match (event, &mut live) {
                    (Event::Encoded { .. }, Some(live)) => {
                        live.begins();
                        None
                    }
                    (Event::Step(report), Some(live)) => live.step(report.step, &run.preview()),
                    _ => None,
                };
                note.into_iter().for_each(|note| reporter.event(&Event::Note { note }));
            }
            reporter.begin("decode");
            let hashes = hashes.done();
            hashes.model.iter().for_each(|hash| run.set_model_hash(hash));
            hashes.vae.iter().for_each(|hash| run.set_vae_hash(hash));
            hashes.refiner.iter().for_each(|hash| run.set_refiner_hash(hash));
            if are_last && jobs.len() == 0 {
                // No step is left that the network could take.
                forge.unload();
            }
            let memory = run.memory();
            let mut saving = Saving { pictures: &outputs.pictures, drawn, unsynced, reporter };
            match &outputs.dump {
                Some(path) => {
                    saving.save(&run.images()?, &seeds, &memory)?;
                    dump(&mut run, &latents, path)?;
                }
                None => saving.save(&run.into_images()?, &seeds, &memory)?,
            }
            drawn += seeds.len();
        }
        Ok(())
    }

    /// Ends the telling.
    pub(super) fn finish(self) -> Result<()> {
        self.unsynced?;
        self.reporter.finish()
    }
}

/// Saves a picture; one whose folder can't be synced is there, and the first of these is told when all are.
fn save(image: &Image, path: &Path, format: PictureFormat, unsynced: &mut Result<()>) -> Result<()> {
    match image.save_as(path, format) {
        Err(error @ RunError::Unsynced { .. }) if unsynced.is_ok() => *unsynced = Err(error.into()),
        Err(RunError::Unsynced { .. }) => {}
        saved => saved?,
    }
    Ok(())
}

/// Where pictures go, and how it went.
struct Saving<'a> {
    pictures: &'a Pictures,
    drawn: usize,
    unsynced: &'a mut Result<()>,
    reporter: &'a mut Reporter,
}

impl Saving<'_> {
    fn save(&mut self, images: &[Image], seeds: &[u64], memory: &MemoryWatch) -> Result<()> {
        self.reporter.event(&Event::Decoded);
        self.reporter.event(&Event::Memory(memory.report(work::DECODE)));
        for (image, &seed) in images.iter().zip(seeds) {
            let path = match self.pictures {
                Pictures::Files(pattern) => {
                    let path = pattern.path(seed, self.drawn);
                    save(image, &path, pattern.format(), self.unsynced)?;
                    path
                }
                Pictures::StandardOutput => {
                    to_standard_output(image)?;
                    PathBuf::from("standard output")
                }
            };
            self.reporter.event(&Event::Image { path, width: image.width, height: image.height, seed });
            self.drawn += 1;
        }
        Ok(())
    }
}

pub(super) fn standard_output_is_free(json: bool) -> Result<()> {
    if json {
        return Err(Error::StandardOutputTaken { user: "together with `--json`" });
    }
    if stdout().is_terminal() {
        return Err(Error::StandardOutputTaken { user: "where that is a terminal" });
    }
    if words_go_there() {
        return Err(Error::StandardOutputTaken { user: "where standard error goes to the same place" });
    }
    Ok(())
}

pub(super) fn to_standard_output(image: &Image) -> Result<()> {
    let mut png = Vec::new();
    let written = image.encode(PictureFormat::Png, &mut png).and_then(|()| unbuffered_stdout()?.write_all(&png));
    written.map_err(|source| forge::Error::Write { path: "standard output".into(), source: source.into() }.into())
}

/// What of a request has no effect, or another than its writer may think.
fn plain_words(request: &Txt2Img, config: &Config) -> Vec<String> {
    let pass = &request.pass;
    let counts = pass.needs_negative();
    let ignored = (!pass.negative.is_empty() && !counts)
        .then(|| "the negative prompt has no effect, as `cfg` is 1; it counts above 1".to_owned());
    let prompts = [Some(("prompt", &pass.prompt)), counts.then_some(("negative prompt", &pass.negative))];
    let words = prompts.into_iter().flatten().flat_map(|(which, prompt)| {
        let found = PlainWords::of(prompt).into_iter();
        let found = found.filter(|found| found.syntax != Syntax::Embedding || config.prompt.embeddings.is_none());
        found.map(move |PlainWords { syntax, text }| {
            format!("`{text}` of the {which} is drawn as plain words: {syntax}")
        })
    });
    let weight = end_weight(&pass.prompt).map(|weight| {
        format!("`{weight}` at the end of the prompt is its weight, as in A1111; with a comma behind it, it is a word")
    });
    words.chain(weight).chain(ignored).collect()
}

/// The number that stands for `random`: A1111 and its relatives draw from 32 bits too.
pub(super) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}
