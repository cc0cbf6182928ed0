//! That no output is a file which is read, or another output, by whatever name.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use crate::{
    Config, Error, Result,
    beside::{index, scheduler},
    embeddings,
    encoder_beside::encoder_of,
    listed::listed,
    loras::LoraIndex,
    model_files::tokenizer_files,
    text_file::STANDARD_INPUT,
    wildcards,
};

/// Refuses an output of some runs that is a file which one of them reads, or another output, by whatever name.
///
/// A run is its config and its [`Outputs::places`](crate::Outputs::places); `more` are outputs of none of the runs, each with the flag that
/// names it, and `read` are files that are read beside those that the configs name. Previews of several runs may be one file.
///
/// # Errors
/// [`Error::Overwrites`], and [`Error::JoinsModel`] for an output that would be read as part of a model from then on.
pub fn check_apart<'r>(
    runs: impl IntoIterator<Item = (&'r Config, &'r [(&'static str, PathBuf)])>,
    more: &[(&'static str, PathBuf)],
    read: &[PathBuf],
) -> Result<()> {
    let runs: Vec<_> = runs.into_iter().collect();
    let mut files = Files::default();
    files.words.add_words();
    runs.iter().for_each(|(config, _)| files.reads(config));
    for path in read {
        let stream = path == Path::new(STANDARD_INPUT);
        let names = if stream { STDIN.map(PathBuf::from).to_vec() } else { vec![path.clone()] };
        names.into_iter().for_each(|name| files.known.add("a file that this run reads", name));
    }
    let mut previews = BTreeSet::new();
    let of_runs = runs.iter().flat_map(|(_, places)| *places);
    for (output, path) in of_runs.chain(more) {
        if *output != "preview.file" || previews.insert(path) {
            files.writes(output, path)?;
        }
    }
    Ok(())
}

/// What runs read and write.
#[derive(Default)]
struct Files {
    known: Known,
    /// The parts of models, of which some are folders.
    parts: BTreeSet<PathBuf>,
    /// Folders of which any file of these endings may be read, until their files are known.
    folders: BTreeSet<(PathBuf, &'static [&'static str])>,
    /// Where the runs' own words go.
    words: Known,
}

impl Files {
    /// Adds what a run of a config reads.
    fn reads(&mut self, config: &Config) {
        const MODEL: &str = "a file of the model";
        let inside =
            |folder: &PathBuf| folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        // Whatever lies in a whole model's folder may be one of its parts.
        let whole = config.model.folder.iter().flat_map(inside);
        let is_model = |table: &str| ["model", "hires", "refiner"].contains(&table);
        let (models, others): (Vec<_>, Vec<_>) = config.files().into_iter().partition(|(key, _)| is_model(key.table));
        for part in models.into_iter().map(|(_, path)| path).chain(whole) {
            if !self.parts.insert(part.clone()) {
                continue;
            }
            if part.is_dir() {
                inside(&part).filter(|path| path.is_file()).for_each(|path| self.known.add(MODEL, path));
            } else {
                // And what may lie beside it and say how it was trained.
                let beside = [part.with_file_name("config.json"), part.with_extension("yaml")];
                beside.into_iter().chain([part.clone()]).for_each(|path| self.known.add(MODEL, path));
            }
            let told = scheduler(&part).into_iter().chain(index(&part)).chain(encoder_of(&part));
            let told = told.chain(tokenizer_files(&part).into_iter().flatten());
            told.for_each(|path| self.known.add(MODEL, path));
        }
        for (key, path) in others {
            let endings: &[&str] = match key.name {
                "loras" => &LoraIndex::ENDINGS,
                "embeddings" => &embeddings::ENDINGS,
                "wildcards" => &wildcards::ENDINGS,
                _ => {
                    self.known.add("a file that this run reads", path);
                    continue;
                }
            };
            self.folders.insert((path, endings));
        }
        let loras = config.loras.iter().filter_map(|lora| lora.file());
        loras.for_each(|path| self.known.add("a LoRA", path.to_owned()));
    }

    /// Adds what is written, if it is nothing of all that.
    fn writes(&mut self, output: &'static str, path: &Path) -> Result<()> {
        // Pictures that go there are no words.
        let is_words = output == "image.output" && path == Path::new(STDOUT[0]);
        if path.is_file() {
            // What is not there yet is no file of a folder.
            for (folder, endings) in std::mem::take(&mut self.folders) {
                let files = listed(&folder, endings, usize::MAX).unwrap_or_default();
                files.into_iter().for_each(|file| self.known.add("a file that this run may read", file));
            }
        }
        let words = || self.words.find(path).filter(|_| !is_words);
        if let Some((what, of)) = self.known.find(path).or_else(words) {
            return Err(Error::Overwrites { output, path: path.to_owned(), what, of });
        }
        let is_tensors = path
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|ending| ["safetensors", "sft"].iter().any(|known| ending.eq_ignore_ascii_case(known)));
        let folder = resolved(path).parent().map(Path::to_owned);
        if let Some(of) = self.parts.iter().find(|of| is_tensors && of.is_dir() && Some(resolved(of)) == folder) {
            return Err(Error::JoinsModel { output, path: path.to_owned(), folder: of.clone() });
        }
        self.known.add("what this run also writes", path.to_owned());
        Ok(())
    }
}

/// Refuses an output that is a file that is read, by whatever name, or would belong to the folder of one.
pub(crate) fn check_conversion<'p>(
    output: &Path,
    read: &Path,
    loras: impl IntoIterator<Item = &'p Path>,
) -> Result<()> {
    const OUTPUT: &str = "OUT";
    let mut known = Known::default();
    let inside = |folder: &Path| folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    match read.is_dir() {
        true => inside(read).filter(|path| path.is_file()).for_each(|path| known.add("a file of the model", path)),
        false => known.add("the model", read.to_owned()),
    }
    loras.into_iter().for_each(|lora| known.add("a LoRA", lora.to_owned()));
    known.add_words();
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
pub fn check_apart_from(output: &'static str, outputs: &[PathBuf], inputs: &[PathBuf]) -> Result<()> {
    let mut known = Known::default();
    inputs.iter().for_each(|path| known.add("a file that this run reads", path.clone()));
    known.add_words();
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
pub(crate) const STDOUT: [&str; 2] = ["/dev/stdout", "/proc/self/fd/1"];
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

    /// Where a shell sends a stream into a file, that is an output too, and has begun.
    fn add_words(&mut self) {
        [STDOUT, STDERR]
            .concat()
            .into_iter()
            .for_each(|stream| self.add("where this run's own words go", stream.into()));
    }

    fn find(&self, path: &Path) -> Option<(&'static str, PathBuf)> {
        let by_id = id(path).and_then(|id| self.by_id.get(&id));
        by_id.or_else(|| self.by_path.get(&resolved(path))).cloned()
    }
}

/// One name for a place, however it is spelt: links are followed as far as it exists, and the rest is put together.
fn resolved(path: &Path) -> PathBuf {
    /// As many as the systems follow.
    const MOST_LINKS: usize = 40;
    let mut existing = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (mut missing, mut links) = (Vec::new(), 0);
    let mut found = loop {
        if let Ok(found) = existing.canonicalize() {
            break found;
        }
        let folder = existing.parent().map(Path::to_owned);
        let last =
            existing.components().next_back().map(|part| (part == Component::ParentDir, part.as_os_str().to_owned()));
        let (Some(folder), Some(last)) = (folder, last) else { break existing };
        existing = match existing.read_link() {
            // It may lead to what is there by then.
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                folder.join(target)
            }
            _ => {
                missing.push(last);
                folder
            }
        };
    };
    for (is_parent, part) in missing.into_iter().rev() {
        if is_parent {
            found.pop();
        } else {
            found.push(part);
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
