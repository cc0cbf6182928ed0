//! `forge batch`: every picture of a folder drawn anew, each as `forge img2img` would.

use std::{
    error::Error as _,
    ffi::OsStr,
    iter::successors,
    path::{Path, PathBuf},
};

use diffusion_engine::{Catalog, PictureFormat};
use forge::{Config, Fault, Threads, apart_from_inputs, paths};

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
    let first = |picture: &PathBuf| PathBuf::from(output(picture, &config).to_string_lossy().replace("{index}", "0"));
    let inputs: Vec<_> = pictures.iter().chain(masks.iter().flat_map(|masks| &masks.pictures)).cloned().collect();
    apart_from_inputs("--output", &pictures.iter().map(first).collect::<Vec<_>>(), &inputs)?;
    let threads = Threads::start(config.device.threads);
    notes.extend(threads.note());
    let all = Folder { registry, run, masks, force: args.force };
    let (done, left): (Vec<_>, Vec<_>) = pictures.iter().partition(|picture| all.is_done(picture, &config));
    notes.extend(done.iter().map(|picture| format!("`{}` has its picture already", picture.display())));
    if left.is_empty() {
        return all.nothing(notes);
    }
    let mut drawing = Drawing::begin(&config, threads, notes, all.run.json, interrupt.cancel())?;
    let mut failed = Vec::new();
    for (index, picture) in left.iter().enumerate() {
        match all.draw(picture, &config, &mut drawing, index + 1 == left.len()) {
            Ok(()) => {}
            Err(Error::Forge(error)) if matches!(error.fault(), Fault::Run | Fault::Usage | Fault::Memory) => {
                let causes = successors(error.source(), |&cause| cause.source()).map(|cause| format!(": {cause}"));
                drawing.note(format!("`{}` is passed over: {error}{}", picture.display(), causes.collect::<String>()));
                failed.push((*picture).clone());
            }
            Err(other) => return Err(other),
        }
    }
    drawing.finish()?;
    if failed.is_empty() { Ok(()) } else { Err(Error::PassedOver { failed, of: pictures.len() }) }
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
        let mut config = config.clone();
        config.image.output = output(picture, &config);
        config.img2img.image = Some(picture.to_owned());
        if let Some(masks) = &self.masks {
            config.inpaint.mask = Some(masks.of(picture)?);
        }
        let asked = Asked::by(self.registry, &self.run, &config)?;
        asked.notes.iter().for_each(|note| drawing.note(note.clone()));
        drawing.draw(asked, &config, is_last)
    }

    /// Whether the last picture that would be drawn of one is there, as pictures are written whole.
    fn is_done(&self, picture: &Path, config: &Config) -> bool {
        let output = output(picture, config).to_string_lossy().into_owned();
        let last = (config.image.batch * config.image.batches).saturating_sub(1);
        !self.force && Path::new(&output.replace("{index}", &last.to_string())).exists()
    }

    /// Tells that nothing is left to be drawn.
    fn nothing(&self, notes: Vec<String>) -> Result<()> {
        let mut reporter = super::term::Reporter::new(self.run.json);
        notes.into_iter().for_each(|note| reporter.event(&diffusion_engine::Event::Note { note }));
        reporter.finish()
    }
}

/// Where the pictures go that are drawn of one: its own name in another folder, with a number where they are several.
fn output(picture: &Path, config: &Config) -> PathBuf {
    let folder = &config.image.output;
    let name = picture.file_name().map(PathBuf::from).unwrap_or_default();
    if config.image.batch * config.image.batches == 1 {
        return folder.join(name);
    }
    let part = |part: Option<&OsStr>| part.map_or_else(String::new, |part| part.to_string_lossy().into_owned());
    folder.join(format!("{}-{{index}}.{}", part(name.file_stem()), part(name.extension())))
}
