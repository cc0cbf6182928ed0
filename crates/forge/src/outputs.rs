//! Where a run writes, found out before the work: every place can be written, and none is a file that is read.

use std::path::{Path, PathBuf};

use diffusion_engine::{Key, PictureFormat, Provenance, Txt2Img, check_writable, render, sweep};

use crate::{
    Config, Error, Pattern, Result,
    apart::{STDOUT, check_apart},
    paths::STANDARD_OUTPUT,
};

/// Where the pictures of a run go.
#[derive(Clone, Debug)]
pub enum Pictures {
    /// Files of this name.
    Files(Pattern),
    /// The stream, which takes one picture.
    StandardOutput,
}

/// What a run writes.
///
/// ```no_run
/// use forge::{Config, Forge, Outputs, samplers::Registry};
///
/// # fn main() -> forge::Result<()> {
/// let config = Config::read("flux.toml".as_ref())?;
/// let request = config.request(|| 42)?;
/// // Before the work: the places can be written, and none is a file that the run reads.
/// let outputs = Outputs::of(&config, &request, None, &["flux.toml".into()])?;
/// let images = Forge::load(&config)?.start(config.job_of(request)?)?.images()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The pictures.
    pub pictures: Pictures,
    /// The dump of every stage, where one is wanted.
    pub dump: Option<PathBuf>,
    /// The picture in the making, where one is wanted.
    pub preview: Option<PathBuf>,
    /// All files of them, with the keys or flags that name them.
    places: Vec<(&'static str, PathBuf)>,
}

impl Outputs {
    /// The places that a run writes to, once nothing speaks against any; folders are swept of what killed runs left in them.
    ///
    /// `request` is that of the first of the config's batches. `read` are files that are read beside those that the config names,
    /// such as the config itself.
    ///
    /// # Errors
    /// Those of [`Pattern::new`], [`Error::SeveralPictures`] for standard output, [`Error::Write`] for a place that can't be written,
    /// [`Error::Overwrites`] and [`Error::JoinsModel`] for one that is needed.
    pub fn of(config: &Config, request: &Txt2Img, dump: Option<PathBuf>, read: &[PathBuf]) -> Result<Self> {
        let pictures = if config.image.output == Path::new(STANDARD_OUTPUT) {
            Pictures::StandardOutput
        } else {
            Pictures::Files(Pattern::new(&config.image.output, config.quality(), &seeds(config, request))?)
        };
        let outputs = Self::to(pictures, config, request, dump)?;
        // Where the stream is a file, that is written too.
        let stream = matches!(outputs.pictures, Pictures::StandardOutput).then(|| PathBuf::from(STDOUT[0]));
        let stream = stream.filter(|stream| stream.is_file()).map(|stream| ("image.output", stream));
        check_apart([(config, outputs.places())], stream.as_slice(), read)?;
        Ok(outputs)
    }

    /// The same of pictures with other names than the config's, or of one of several runs: whether none is a file that is read is left to
    /// [`check_apart`], which takes all runs at once.
    ///
    /// # Errors
    /// As [`Outputs::of`], but those of [`Pattern::new`] and [`check_apart`].
    pub fn to(pictures: Pictures, config: &Config, request: &Txt2Img, dump: Option<PathBuf>) -> Result<Self> {
        let mut places: Vec<_> = match &pictures {
            Pictures::StandardOutput => {
                let pictures = request.batch.saturating_mul(config.image.batches);
                if pictures > 1 {
                    return Err(Error::SeveralPictures { batch: pictures });
                }
                Vec::new()
            }
            Pictures::Files(pattern) => {
                let seeds = seeds(config, request).into_iter().enumerate();
                seeds.map(|(i, seed)| ("image.output", pattern.path(seed, i))).collect()
            }
        };
        places.extend(dump.clone().map(|path| ("--dump", path)));
        let preview = config.preview.file.clone();
        if let Some(path) = &preview {
            if PictureFormat::of(path, PictureFormat::QUALITY).is_none() {
                let (expected, found) = (PictureFormat::ENDINGS, format!("`{}`", path.display()));
                let expected = format!("a name that ends in {expected}");
                return Err(Error::Value { key: "preview.file".into(), expected, found });
            }
            places.push(("preview.file", path.clone()));
        }
        for (_, path) in &places {
            check_writable(path).map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        for (_, path) in &places {
            // Where a folder is still to be made, the nearest that exists was tried in its place.
            let folders = path.ancestors().skip(1).map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
            folders.into_iter().find(|folder| folder.is_dir()).map(sweep);
        }
        Ok(Self { pictures, dump, preview, places })
    }

    /// All files that are written, each with the key or the flag that names it.
    pub fn places(&self) -> &[(&'static str, PathBuf)] {
        &self.places
    }

    /// Finds out before the work whether the pictures have room for the text of a request.
    ///
    /// # Errors
    /// [`Error::LongText`] for one that is longer than a JPEG holds.
    pub fn hold(&self, request: &Txt2Img, knobs: &[Key]) -> Result<()> {
        /// Names and hashes of the model and its autoencoder.
        const NAMES: usize = 1024;
        let Pictures::Files(pattern) = &self.pictures else { return Ok(()) };
        let text = render(request, &Provenance::default(), knobs, true) + &" ".repeat(NAMES);
        check_text(pattern.format(), &text)
    }
}

/// Finds out whether a format has room for a text.
///
/// # Errors
/// [`Error::LongText`].
pub fn check_text(format: PictureFormat, text: &str) -> Result<()> {
    if format.holds(text) {
        return Ok(());
    }
    Err(Error::LongText { bytes: 2 * text.encode_utf16().count(), max: PictureFormat::MAX_JPEG_TEXT })
}

/// The seeds of all pictures.
fn seeds(config: &Config, request: &Txt2Img) -> Vec<u64> {
    request.batches(config.image.batches).iter().flat_map(Txt2Img::seeds).collect()
}
