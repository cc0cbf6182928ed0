//! Where a run writes, found out before the work: every place can be written, and none is a file that is read.

use std::{
    collections::BTreeSet,
    collections::HashMap,
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use diffusion_engine::{Key, PictureFormat, Provenance, Txt2Img, check_writable, render, sweep};

use crate::{Config, Error, Result, paths::STANDARD_OUTPUT, text_file::STANDARD_INPUT};

/// A name for pictures, in which `{seed}` and `{index}` are filled in, and the format that it ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    format: PictureFormat,
}

/// The endings of formats that pictures may have elsewhere.
const FORMATS: [(&str, &str); 6] =
    [("avif", "AVIF"), ("jxl", "JPEG XL"), ("tif", "TIFF"), ("tiff", "TIFF"), ("bmp", "BMP"), ("gif", "GIF")];

/// How A1111 and ComfyUI begin what they fill in.
const OTHERS_FIELDS: [&str; 8] = ["%seed%", "%date%", "%date:", "%width%", "%height%", "[seed]", "[date]", "[datetime"];

impl Pattern {
    /// A pattern that gives each picture of a batch a name of its own, in a folder that can be written; `seeds` are theirs, and `quality` is that
    /// of JPEGs.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Format`] for names that would collide, fill nothing in or promise another format, [`Error::Write`] for
    /// a place that can't be written.
    pub fn new(pattern: &Path, quality: u8, seeds: &[u64]) -> Result<Self> {
        let wrong = |expected: &str| {
            let found = format!("`{}`", pattern.display());
            Err(Error::Value { key: "image.output".into(), expected: expected.into(), found })
        };
        let Some(text) = pattern.to_str() else { return wrong("a name in UTF-8") };
        let distinct: BTreeSet<&u64> = seeds.iter().collect();
        if !text.contains("{index}") && (distinct.len() < seeds.len() || seeds.len() > 1 && !text.contains("{seed}")) {
            return wrong(match distinct.len() {
                1 => "`{index}` in it, as there are several pictures of one seed",
                _ => "`{index}` or `{seed}` in it, as there are several pictures",
            });
        }
        if text.replace("{seed}", "").replace("{index}", "").contains(['{', '}']) {
            return wrong("no braces but `{seed}` and `{index}`");
        }
        let lower = text.to_lowercase();
        if OTHERS_FIELDS.iter().any(|field| lower.contains(field)) {
            return wrong("`{seed}` or `{index}`, as what other programs fill in is not");
        }
        let ending = pattern.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        if let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == ending) {
            return Err(Error::Format { path: pattern.to_owned(), format });
        }
        let Some(format) = PictureFormat::of(pattern, quality) else {
            return wrong(&format!("a name that ends in {}", PictureFormat::ENDINGS));
        };
        let pattern = Self { text: text.to_owned(), format };
        for (index, &seed) in seeds.iter().enumerate() {
            let path = pattern.path(seed, index);
            check_writable(&path).map_err(|source| Error::Write { path, source })?;
        }
        Ok(pattern)
    }

    /// The format of the pictures.
    pub fn format(&self) -> PictureFormat {
        self.format
    }

    /// The name of one picture.
    pub fn path(&self, seed: u64, index: usize) -> PathBuf {
        self.text.replace("{seed}", &seed.to_string()).replace("{index}", &index.to_string()).into()
    }
}

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
        let mut places = Vec::new();
        let pictures = if config.image.output == Path::new(STANDARD_OUTPUT) {
            let pictures = request.batch.saturating_mul(config.image.batches);
            if pictures > 1 {
                return Err(Error::SeveralPictures { batch: pictures });
            }
            Pictures::StandardOutput
        } else {
            let seeds: Vec<u64> = request.batches(config.image.batches).iter().flat_map(Txt2Img::seeds).collect();
            let quality = u8::try_from(config.image.quality).unwrap_or(u8::MAX);
            let pattern = Pattern::new(&config.image.output, quality, &seeds)?;
            places.extend(seeds.iter().enumerate().map(|(i, &seed)| ("image.output", pattern.path(seed, i))));
            Pictures::Files(pattern)
        };
        if let Some(path) = &dump {
            check_writable(path).map_err(|source| Error::Write { path: path.clone(), source })?;
            places.push(("--dump", path.clone()));
        }
        let preview = config.preview.file.clone();
        if let Some(path) = &preview {
            if PictureFormat::of(path, PictureFormat::QUALITY).is_none() {
                let (expected, found) = (PictureFormat::ENDINGS, format!("`{}`", path.display()));
                let expected = format!("a name that ends in {expected}");
                return Err(Error::Value { key: "preview.file".into(), expected, found });
            }
            check_writable(path).map_err(|source| Error::Write { path: path.clone(), source })?;
            places.push(("preview.file", path.clone()));
        }
        apart(&places, config, read)?;
        for (_, path) in &places {
            // Where a folder is still to be made, the nearest that exists was tried in its place.
            let folders = path.ancestors().skip(1).map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
            folders.into_iter().find(|folder| folder.is_dir()).map(sweep);
        }
        Ok(Self { pictures, dump, preview })
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
        if pattern.format.holds(&text) {
            return Ok(());
        }
        let bytes = 2 * text.encode_utf16().count();
        Err(Error::LongText { bytes, max: PictureFormat::MAX_JPEG_TEXT })
    }
}

/// Refuses a place that is a file which is read, or another place, by whatever name.
fn apart(places: &[(&'static str, PathBuf)], config: &Config, read: &[PathBuf]) -> Result<()> {
    let mut known = Known::default();
    let (model, others): (Vec<_>, Vec<_>) = config.files().into_iter().partition(|(key, _)| key.table == "model");
    let parts: Vec<PathBuf> = model.into_iter().map(|(_, path)| path).collect();
    // Whatever lies in a whole model's folder may be one of its parts.
    let inside =
        |folder: &PathBuf| folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let folders: Vec<PathBuf> = parts.into_iter().chain(config.model.folder.iter().flat_map(inside)).collect();
    for part in &folders {
        if part.is_dir() {
            let entries = part.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
            entries.filter(|path| path.is_file()).for_each(|path| known.add("a file of the model", path));
        } else {
            known.add("a file of the model", part.clone());
            known.add("a file of the model", part.with_file_name("config.json"));
        }
    }
    others.into_iter().for_each(|(_, path)| known.add("a file that this run reads", path));
    for path in read {
        let stream = path == Path::new(STANDARD_INPUT);
        let names = if stream { STDIN.map(PathBuf::from).to_vec() } else { vec![path.clone()] };
        names.into_iter().for_each(|name| known.add("a file that this run reads", name));
    }
    // Where a shell sends a stream into a file, that is an output too, and has begun.
    for stream in [STDOUT, STDERR].concat() {
        known.add("where this run's own words go", stream.into());
    }
    for (output, path) in places {
        let output = *output;
        if let Some((what, of)) = known.find(path) {
            return Err(Error::Overwrites { output, path: path.clone(), what, of });
        }
        let is_tensors = path
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|ending| ["safetensors", "sft"].iter().any(|known| ending.eq_ignore_ascii_case(known)));
        let folder = resolved(path).parent().map(Path::to_owned);
        if let Some(of) = folders.iter().find(|of| is_tensors && of.is_dir() && Some(resolved(of)) == folder) {
            return Err(Error::JoinsModel { output, path: path.clone(), folder: of.clone() });
        }
        known.add("what this run also writes", path.clone());
    }
    Ok(())
}

/// Refuses an output that is a file that is read, by whatever name, or would belong to the folder of one.
pub(crate) fn apart_from<'p>(output: &Path, read: &Path, loras: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    const OUTPUT: &str = "OUT";
    let mut known = Known::default();
    let inside = |folder: &Path| folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    match read.is_dir() {
        true => inside(read).filter(|path| path.is_file()).for_each(|path| known.add("a file of the model", path)),
        false => known.add("the model", read.to_owned()),
    }
    loras.into_iter().for_each(|lora| known.add("a LoRA", lora.to_owned()));
    if let Some((what, of)) = known.find(output) {
        return Err(Error::Overwrites { output: OUTPUT, path: output.to_owned(), what, of });
    }
    if read.is_dir() && resolved(output).parent() == Some(&*resolved(read)) {
        return Err(Error::JoinsModel { output: OUTPUT, path: output.to_owned(), folder: read.to_owned() });
    }
    Ok(())
}

/// Refuses outputs that are files which are read, or each other, by whatever names; `output` is the flag that names them.
///
/// # Errors
/// [`Error::Overwrites`].
pub fn apart_from_inputs(output: &'static str, outputs: &[PathBuf], inputs: &[PathBuf]) -> Result<()> {
    let mut known = Known::default();
    inputs.iter().for_each(|path| known.add("a file that this run reads", path.clone()));
    for stream in [STDOUT, STDERR].concat() {
        known.add("where this run's own words go", stream.into());
    }
    for path in outputs {
        if let Some((what, of)) = known.find(path) {
            return Err(Error::Overwrites { output, path: path.clone(), what, of });
        }
        known.add("what this run also writes", path.clone());
    }
    Ok(())
}

/// What the streams are called, where the system has names for them.
const STDIN: [&str; 2] = ["/dev/stdin", "/proc/self/fd/0"];
const STDOUT: [&str; 2] = ["/dev/stdout", "/proc/self/fd/1"];
const STDERR: [&str; 2] = ["/dev/stderr", "/proc/self/fd/2"];

/// Files, found by any of their names.
#[derive(Default)]
struct Known {
    by_path: HashMap<PathBuf, (&'static str, PathBuf)>,
    by_id: HashMap<(u64, u64), (&'static str, PathBuf)>,
}

impl Known {
    fn add(&mut self, what: &'static str, path: PathBuf) {
        if let Some(id) = id(&path) {
            self.by_id.insert(id, (what, path.clone()));
        }
        self.by_path.insert(resolved(&path), (what, path));
    }

    fn find(&self, path: &Path) -> Option<(&'static str, PathBuf)> {
        let by_id = id(path).and_then(|id| self.by_id.get(&id));
        by_id.or_else(|| self.by_path.get(&resolved(path))).cloned()
    }
}

/// One name for a place, however it is spelt: links are followed as far as it exists, and the rest is put together.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut existing = whole.as_path();
    let mut found = loop {
        if let Ok(found) = existing.canonicalize() {
            break found;
        }
        match (existing.parent(), existing.components().next_back()) {
            (Some(parent), Some(last)) => {
                missing.push(last);
                existing = parent;
            }
            _ => break existing.to_owned(),
        }
    };
    for part in missing.into_iter().rev() {
        match part {
            Component::ParentDir => {
                found.pop();
            }
            other => found.push(other),
        }
    }
    match found.to_str() {
        // The common file systems of these two know no case.
        Some(text) if cfg!(any(windows, target_os = "macos")) => text.to_lowercase().into(),
        _ => found,
    }
}

/// What is the same for all hard links of a file.
#[cfg(unix)]
fn id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn id(_: &Path) -> Option<(u64, u64)> {
    None
}
