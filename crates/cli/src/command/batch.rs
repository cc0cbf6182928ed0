//! `forge batch`: every picture of a folder drawn anew, each as `forge img2img` would.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use diffusion_engine::{Catalog, Error as RunError, PictureFormat, Unwritable};
use forge::{Config, Fault, Outputs, Pattern, Pictures, Threads, check_apart, paths, with_causes};

use super::{
    args::{BatchArgs, Txt2ImgArgs},
    txt2img::{Asked, Drawing},
};
use crate::{
    error::{Error, Result},
    signals::Interrupt,
};

pub(super) fn run(registry: &Catalog, args: &BatchArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let run = args.as_txt2img();
    let mut config = run.config()?;
    let mut notes = run.override_keys(&mut config, registry)?;
    let folder = paths::to_read("FOLDER", &args.input, Path::new(""))?;
    let pictures = pictures_in("FOLDER", &folder)?;
    let masks = match config.inpaint.mask.take_if(|mask| mask.is_dir()) {
        Some(folder) => Some(Masks { pictures: pictures_in("inpaint.mask", &folder)?, folder }),
        None => None,
    };
    one_each(&run, &config)?;
    let inputs: Vec<_> = pictures.iter().chain(masks.iter().flat_map(|masks| &masks.pictures)).cloned().collect();
    let all = Folder { registry, run, masks, force: args.force };
    let outputs = pictures.iter().map(|picture| all.outputs(picture, &config)).collect::<Result<Vec<_>>>()?;
    all.keeps_apart(&config, &outputs, inputs)?;
    let threads = Threads::start(config.device.threads);
    notes.extend(threads.note());
    // The last that is drawn of a picture is written when the others are.
    let is_done = |outputs: &Vec<PathBuf>| !all.force && outputs.last().is_some_and(|path| path.is_file());
    let (done, left): (Vec<_>, Vec<_>) = pictures.iter().zip(&outputs).partition(|(_, outputs)| is_done(outputs));
    notes.extend(done.iter().map(|(picture, _)| format!("`{}` has its picture already", picture.display())));
    if left.is_empty() {
        return all.nothing(notes);
    }
    all.check(left.iter().map(|(picture, _)| *picture), &config)?;
    let mut drawing = Drawing::begin(&config, threads, notes, all.run.json, interrupt.cancel())?;
    let (mut failed, mut lacks_memory) = (Vec::new(), true);
    for (index, (picture, _)) in left.iter().enumerate() {
        match all.draw(picture, &config, &mut drawing, index + 1 == left.len()) {
            Ok(()) => {}
            Err(Error::Forge(error)) if all.is_passed_over(&error, picture) => {
                drawing.note(format!("`{}` is passed over: {}", picture.display(), with_causes(&error)));
                failed.push((*picture).clone());
                lacks_memory &= error.fault() == Fault::Memory;
            }
            Err(other) => return Err(other),
        }
    }
    drawing.finish()?;
    if failed.is_empty() {
        return Ok(());
    }
    let lacks_memory = lacks_memory && failed.len() == left.len();
    Err(Error::PassedOver { failed, of: pictures.len(), lacks_memory })
}

/// The pictures of a folder that is `key`'s value, by their names.
fn pictures_in(key: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |source| forge::Error::Read { path: folder.to_owned(), source };
    let entries = folder.read_dir().map_err(read)?.collect::<std::io::Result<Vec<_>>>().map_err(read)?;
    let is_picture = |path: &PathBuf| {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !is_hidden && PictureFormat::of(path, PictureFormat::QUALITY).is_some() && path.is_file()
    };
    let mut pictures: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_picture).collect();
    pictures.sort();
    if pictures.is_empty() {
        let (expected, found) = (format!("a folder with pictures, which end in {}", PictureFormat::ENDINGS), "none");
        return Err(forge::Error::Value { key: key.into(), expected, found: found.into() }.into());
    }
    Ok(pictures)
}

/// Refuses what all pictures would write to.
fn one_each(run: &Txt2ImgArgs, config: &Config) -> Result<()> {
    let (expected, found) = ("nothing, as there are several pictures".to_owned(), "a file".to_owned());
    let key = match (run.dump_file()?, &config.image.output) {
        (Some(_), _) => "--dump",
        (None, _) if run.flags.text("img2img.image").is_some() => "--image",
        (None, output) if output == Path::new(forge::STANDARD_OUTPUT) => {
            let (expected, found) = ("a folder".into(), "`-`".into());
            return Err(forge::Error::Value { key: "--output".into(), expected, found }.into());
        }
        (None, output) if output.to_string_lossy().contains(['{', '}']) => {
            let (expected, found) =
                ("a folder, in which nothing is filled in".into(), format!("`{}`", output.display()));
            return Err(forge::Error::Value { key: "--output".into(), expected, found }.into());
        }
        (None, _) => return Ok(()),
    };
    Err(forge::Error::Value { key: key.into(), expected, found }.into())
}

/// A folder with a mask for each picture.
struct Masks {
    folder: PathBuf,
    pictures: Vec<PathBuf>,
}

impl Masks {
    /// The mask that is called as a picture is, whatever they end in: the whole name first, as a folder may have several of one stem.
    fn of(&self, picture: &Path) -> Result<PathBuf> {
        let alike = |part: fn(&Path) -> Option<&OsStr>| self.pictures.iter().find(|mask| part(mask) == part(picture));
        if let Some(mask) = alike(Path::file_name).or_else(|| alike(Path::file_stem)) {
            return Ok(mask.clone());
        }
        let stem = picture.file_stem().unwrap_or_default().to_string_lossy();
        let expected = format!("a mask for each picture, `{stem}` with one of the endings {}", PictureFormat::ENDINGS);
        let found = format!("none in `{}`", self.folder.display());
        Err(forge::Error::Value { key: "inpaint.mask".into(), expected, found }.into())
    }
}

/// What all pictures of a folder have in common.
struct Folder<'a> {
    registry: &'a Catalog,
    run: Txt2ImgArgs,
    masks: Option<Masks>,
    force: bool,
}

impl Folder<'_> {
    fn draw(&self, picture: &Path, config: &Config, drawing: &mut Drawing, is_last: bool) -> Result<()> {
        let config = self.of(picture, config)?;
        let asked = self.asked(picture, &config)?;
        asked.notes.iter().for_each(|note| drawing.note(note.clone()));
        drawing.draw(asked, &config, is_last)
    }

    /// The config of one picture.
    fn of(&self, picture: &Path, config: &Config) -> Result<Config> {
        let mut config = config.clone();
        config.img2img.image = Some(picture.to_owned());
        if let Some(masks) = &self.masks {
            config.inpaint.mask = Some(masks.of(picture)?);
        }
        Ok(config)
    }

    fn asked(&self, picture: &Path, config: &Config) -> Result<Asked> {
        Asked::to(self.registry, &self.run, config, |request| {
            let pictures = Pictures::Files(self.names(picture, config)?);
            Ok(Outputs::to(pictures, config, request, None)?)
        })
    }

    /// Finds what is wrong with all pictures before the model is opened, by the first that can be read.
    fn check<'p>(&self, pictures: impl Iterator<Item = &'p PathBuf>, config: &Config) -> Result<()> {
        let mut first = None;
        for picture in pictures {
            match self.of(picture, config).and_then(|own| self.asked(picture, &own)) {
                Ok(_) => return Ok(()),
                Err(Error::Forge(error)) if self.is_own(&error, picture) => first = first.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        // None can be drawn, and the first says why where that is no file's fault.
        first.filter(|error| error.fault() == Fault::Usage).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether an error is that of a picture, its mask or its name, and says nothing of the others.
    fn is_own(&self, error: &forge::Error, picture: &Path) -> bool {
        let is_of =
            |path: &PathBuf| path == picture || self.masks.as_ref().is_some_and(|masks| masks.pictures.contains(path));
        let is_of_name = |source: &Unwritable| !matches!(source, Unwritable::NotAFolder { .. } | Unwritable::System(_));
        match error {
            forge::Error::Value { key, .. } => ["img2img.scale", "inpaint.mask"].contains(&&**key),
            forge::Error::PictureMemory { path, .. } => is_of(path),
            // Only a JPEG limits its text, and others may have another format.
            forge::Error::LongText { .. } => true,
            forge::Error::Write { source, .. } => is_of_name(source),
            forge::Error::Run(error) => match error {
                RunError::Read { path, .. } | RunError::NotAPicture { path } | RunError::Pixels { path, .. } => {
                    is_of(path)
                }
                RunError::Write { source, .. } => is_of_name(source),
                RunError::Picture { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the others may be drawn in spite of an error of a picture's run.
    fn is_passed_over(&self, error: &forge::Error, picture: &Path) -> bool {
        let is_write = matches!(error, forge::Error::Write { .. } | forge::Error::Run(RunError::Write { .. }));
        match error.fault() {
            _ if self.is_own(error, picture) => true,
            // A full drive fails every picture.
            Fault::Run => !is_write,
            Fault::Memory => true,
            Fault::Usage | Fault::Model | Fault::Stopped => false,
        }
    }

    /// What those are called that are drawn of a picture: as it is, in another folder.
    fn names(&self, picture: &Path, config: &Config) -> Result<Pattern> {
        Ok(Pattern::after(picture, &config.image.output, config.quality(), count(config))?)
    }

    /// Where they go.
    fn outputs(&self, picture: &Path, config: &Config) -> Result<Vec<PathBuf>> {
        let names = self.names(picture, config)?;
        Ok((0..count(config)).map(|index| names.path(0, index)).collect())
    }

    /// Refuses what would be written over a picture that is read, or over another.
    fn keeps_apart(&self, config: &Config, outputs: &[Vec<PathBuf>], inputs: Vec<PathBuf>) -> Result<()> {
        let pictures = outputs.iter().flatten().map(|path| ("--output", path.clone()));
        let preview = config.preview.file.iter().map(|path| ("preview.file", path.clone()));
        let places: Vec<_> = pictures.chain(preview).collect();
        Ok(check_apart([(config, &*places)], &[], &[inputs, self.run.other_files()?].concat())?)
    }

    /// Tells that nothing is left to be drawn.
    fn nothing(&self, notes: Vec<String>) -> Result<()> {
        let mut reporter = super::term::Reporter::new(self.run.json);
        notes.into_iter().for_each(|note| reporter.event(&diffusion_engine::Event::Note { note }));
        reporter.finish()
    }
}

/// How many pictures are drawn of each.
fn count(config: &Config) -> usize {
    config.image.batch.saturating_mul(config.image.batches)
}
