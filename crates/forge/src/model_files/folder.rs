//! A model's file, or a folder of them: which files count, and what they hold together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use core_tensor::{Error as TensorError, Manifest, Stored, WeightSource};

use super::{
    abridged,
    container::{TensorFile, open_file},
    index::{Index, MOST_FILES},
};
use crate::{Error, Result};

/// One file of tensors, or several that make one model.
pub(crate) struct Shards {
    label: String,
    shards: Vec<TensorFile>,
    /// Of all files together, where that is another than the only file's.
    joined: Option<Manifest>,
    /// Which shard holds a tensor, where the folder says so.
    index: Option<Index>,
    /// The names in the files of names without the wrappers in them, where there are any.
    wrapped: BTreeMap<String, String>,
}

/// What wrappers of a training leave in the middle of names: torch.compile's, FSDP's and that for checkpoints.
const WRAPPERS: &[&str] = &["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

impl Shards {
    /// Lets the system have the memory in which the files were read.
    pub(crate) fn give_back(&self) {
        self.shards.iter().for_each(TensorFile::give_back);
    }

    /// Opens a file, or what a folder's index lists, or all of a folder's files.
    ///
    /// # Errors
    /// A file that can't be read; a folder that is incomplete by its index or by its files' own names, or ambiguous.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Self::unwrapped(path, vec![open_file(path)?], None);
        }
        let Listing { models, indexes, .. } = Listing::of(path)?;
        if indexes.len() > 1 {
            return Err(Error::SeveralSplits { splits: indexes.iter().map(|index| format!("`{index}`")).collect() });
        }
        if let Some(index) = indexes.first() {
            return Self::indexed(path, Index::read(&path.join(index))?);
        }
        let shards = chosen(models)?.iter().map(|name| opened(&path.join(name))).collect::<Result<Vec<_>>>()?;
        each_tensor_once(&shards)?;
        Self::unwrapped(path, shards, None)
    }

    /// Takes the wrappers out of the tensors' names.
    fn unwrapped(path: &Path, shards: Vec<TensorFile>, index: Option<Index>) -> Result<Self> {
        let label = format!("`{}`", path.display());
        let mut files = Self { label, shards, joined: None, index, wrapped: BTreeMap::new() };
        let is_wrapped = |name: &str| WRAPPERS.iter().any(|wrapper| name.contains(wrapper));
        if files.stored_names().any(is_wrapped) {
            let mut wrapped = BTreeMap::new();
            for name in files.stored_names() {
                let bare = WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ""));
                if let Some(other) = wrapped.insert(bare, name.to_owned()) {
                    return Err(Error::OneNameForTwo { names: [abridged(&other), abridged(name)] });
                }
            }
            files.wrapped = wrapped;
        }
        if files.shards.len() > 1 || files.index.is_some() || !files.wrapped.is_empty() {
            files.joined = Some(files.join());
        }
        Ok(files)
    }

    /// Every tensor of the model by its name in the files.
    fn stored_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.index {
            Some(index) => Box::new(index.tensors.keys().map(String::as_str)),
            None => Box::new(self.shards.iter().flat_map(|shard| shard.manifest().names())),
        }
    }

    fn join(&self) -> Manifest {
        let form = |name: &str, stored: &str| {
            let form = self.holding(stored)?.manifest().get(stored)?;
            Some((name.to_owned(), form.format, form.shape.to_vec()))
        };
        match self.wrapped.is_empty() {
            true => self.stored_names().filter_map(|name| form(name, name)).collect(),
            false => self.wrapped.iter().filter_map(|(name, stored)| form(name, stored)).collect(),
        }
    }

    fn indexed(path: &Path, index: Index) -> Result<Self> {
        let absent = |file: &&String| !path.join(file).exists();
        if let Some(file) = index.files.iter().find(absent) {
            return Err(Error::NotThere { file: file.clone(), index: index.path.clone() });
        }
        let shards = index.files.iter().map(|file| opened(&path.join(file))).collect::<Result<Vec<_>>>()?;
        for (tensor, &shard) in &index.tensors {
            if !shards[shard].manifest().contains(tensor) {
                let (file, tensor) = (index.files[shard].clone(), abridged(tensor));
                return Err(Error::NotInItsFile { tensor, file, index: index.path.clone() });
            }
        }
        Self::unwrapped(path, shards, Some(index))
    }

    /// The names of tensors that the folder's index does not list, though they are in its files.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = &str> {
        let unlisted = |index: &'_ Index, name: &str| !index.tensors.contains_key(name);
        let names = self.shards.iter().flat_map(|shard| shard.manifest().names());
        names.filter(move |name| self.index.as_ref().is_some_and(|index| unlisted(index, name)))
    }

    /// The file that holds a tensor of this name in it.
    fn holding(&self, stored: &str) -> Option<&TensorFile> {
        match &self.index {
            Some(index) => self.shards.get(*index.tensors.get(stored)?),
            None => self.shards.iter().find(|shard| shard.manifest().contains(stored)),
        }
    }
}

/// The file of a model that has only one: the path itself, or what a folder has.
pub(crate) fn only_file(path: &Path) -> Option<PathBuf> {
    if !path.is_dir() {
        return Some(path.to_owned());
    }
    match chosen(Listing::of(path).ok()?.models).ok()?.as_slice() {
        [only] => Some(path.join(only)),
        [] | [_, _, ..] => None,
    }
}

fn each_tensor_once(shards: &[TensorFile]) -> Result<()> {
    if shards.len() < 2 {
        return Ok(());
    }
    let mut first: BTreeMap<&str, &TensorFile> = BTreeMap::new();
    for shard in shards {
        for name in shard.manifest().names() {
            if let Some(other) = first.insert(name, shard) {
                let files = [other, shard].map(|shard| name_of(shard.path()));
                return Err(Error::InTwoFiles { tensor: abridged(name), files });
            }
        }
    }
    Ok(())
}

impl WeightSource for Shards {
    fn label(&self) -> &str {
        &self.label
    }

    fn manifest(&self) -> &Manifest {
        match (&self.joined, self.shards.as_slice()) {
            (Some(joined), _) => joined,
            (None, [only, ..]) => only.manifest(),
            (None, []) => unreachable!("a model has a file"),
        }
    }

    fn read(&self, name: &str) -> std::result::Result<Stored, TensorError> {
        let missing = || TensorError::Missing { name: name.to_owned(), source_name: self.label.clone() };
        let stored = match self.wrapped.is_empty() {
            true => name,
            false => self.wrapped.get(name).ok_or_else(missing)?,
        };
        self.holding(stored).ok_or_else(missing)?.read(stored)
    }
}

/// A file of a folder; an error says which.
fn opened(path: &Path) -> Result<TensorFile> {
    open_file(path).map_err(|source| match source {
        Error::NotAModel { .. } | Error::Unfinished { .. } => {
            Error::Load { path: path.to_owned(), source: Box::new(source) }
        }
        source => source,
    })
}

/// What a folder holds of a model: names of files, in order.
#[derive(Default)]
struct Listing {
    models: Vec<String>,
    /// The plain one first.
    indexes: Vec<String>,
    /// A model in a format that is not read.
    foreign: Option<String>,
    /// Whether it is the folder around a model's parts.
    is_whole_model: bool,
}

/// How the names of models in other formats end.
const FOREIGN: &[&str] = &[".bin", ".ckpt", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5"];

impl Listing {
    /// Dot files, among them what macOS writes beside each file on a foreign disk, are nobody's model.
    fn of(folder: &Path) -> Result<Self> {
        let read = |source| Error::Read { path: folder.to_owned(), source };
        let mut listing = Self::default();
        for entry in folder.read_dir().map_err(read)? {
            let Ok(name) = entry.map_err(read)?.file_name().into_string() else { continue };
            let lower = name.to_lowercase();
            if name.starts_with('.') {
                continue;
            }
            listing.is_whole_model |= name == "model_index.json";
            if FOREIGN.iter().any(|end| lower.ends_with(end)) {
                listing.foreign.get_or_insert(name.clone());
            }
            if lower.ends_with(".safetensors") || lower.ends_with(".sft") {
                listing.models.push(name);
            } else if lower.ends_with(".json") && lower.contains(".safetensors.index.") {
                listing.indexes.push(name);
            }
            if listing.models.len() > MOST_FILES || listing.indexes.len() > MOST_FILES {
                return Err(Error::TooManyFiles { limit: MOST_FILES });
            }
        }
        // Folders from the hub hold several precisions of one model; the plain one is the model.
        plain_only(&mut listing.models);
        plain_only(&mut listing.indexes);
        // An index of half precision is not that of a plain model beside it.
        if listing.indexes.iter().any(|index| is_variant(index))
            && listing.models.iter().any(|model| !is_variant(model))
        {
            listing.indexes.clear();
        }
        if !(listing.models.is_empty() && listing.indexes.is_empty()) {
            return Ok(listing);
        }
        let found = match listing.foreign {
            _ if listing.is_whole_model => "the folder of a whole model, which `folder` takes, not one part".into(),
            Some(foreign) => format!("a folder without one, but with `{foreign}`"),
            None => "a folder without one".into(),
        };
        Err(Error::WrongFile { expected: "a safetensors file".into(), found })
    }
}

/// Whether a name says that it is a model's second precision or average.
fn is_variant(name: &str) -> bool {
    let name = name.to_lowercase();
    ["fp16", "bf16", "fp32", "fp8", "non_ema"]
        .iter()
        .any(|variant| [format!(".{variant}."), format!(".{variant}-")].iter().any(|part| name.contains(&**part)))
}

fn plain_only(names: &mut Vec<String>) {
    if names.iter().any(|name| !is_variant(name)) {
        names.retain(|name| !is_variant(name));
    }
    names.sort();
}

/// Which files of a folder without an index are its model: all of them, but of a model that lies there whole and split the
/// whole one.
fn chosen(mut names: Vec<String>) -> Result<Vec<String>> {
    let mut splits: BTreeMap<(String, usize), BTreeSet<usize>> = BTreeMap::new();
    for name in &names {
        if let Some(Place { stem, number, of }) = place(name) {
            splits.entry((stem.to_owned(), of)).or_default().insert(number);
        }
    }
    let is_whole = |stem: &str| names.iter().any(|name| place(name).is_none() && stem_of(name) == stem);
    let superfluous: BTreeSet<String> = splits.keys().map(|(stem, _)| stem.clone()).filter(|s| is_whole(s)).collect();
    splits.retain(|(stem, _), _| !superfluous.contains(stem));
    names.retain(|name| place(name).is_none_or(|place| !superfluous.contains(place.stem)));
    if splits.len() > 1 {
        let described = splits.keys().map(|(stem, of)| format!("`{stem}-…-of-{of:05}`")).collect();
        return Err(Error::SeveralSplits { splits: described });
    }
    for ((stem, of), numbers) in &splits {
        // The numbers of a split begin with 1.
        if let Some(missing) = (1..=*of).find(|number| !numbers.contains(number)) {
            let missing = format!("{stem}-{missing:05}-of-{of:05}.safetensors");
            return Err(Error::ShardMissing { missing, found: numbers.len(), of: *of });
        }
    }
    Ok(names)
}

/// A file's place in a split, as its name says: `model-00001-of-00003.safetensors`.
struct Place<'a> {
    stem: &'a str,
    number: usize,
    of: usize,
}

fn place(name: &str) -> Option<Place<'_>> {
    let (rest, of) = stem_of(name).rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let count = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    Some(Place { stem, number: count(number)?, of: count(of)? })
}

fn stem_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_split_is_whole_or_an_error_that_names_the_missing_file() {
        let whole = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        assert_eq!(chosen(names(&whole)).unwrap(), whole);
        for present in [&whole[..1], &whole[1..]] {
            let error = chosen(names(present)).unwrap_err().to_string();
            let missing = whole.iter().find(|name| !present.contains(name)).unwrap();
            assert!(error.contains(missing) && error.contains("1 of 2"), "{error}");
        }
        // The same, by a number that is beyond the count.
        assert!(chosen(names(&["m-00001-of-00002.safetensors", "m-00003-of-00002.safetensors"])).is_err());
        assert!(chosen(names(&["m-00000-of-99999999999999999999.safetensors"])).is_ok());
    }

    #[test]
    fn a_model_that_is_there_whole_and_split_is_the_whole_one() {
        let both = ["m.safetensors", "m-00001-of-00002.safetensors"];
        assert_eq!(chosen(names(&both)).unwrap(), ["m.safetensors"]);
        assert!(matches!(
            chosen(names(&["m-00001-of-00001.safetensors", "m-00001-of-00002.safetensors"])),
            Err(Error::SeveralSplits { .. })
        ));
        assert!(chosen(names(&["a.safetensors", "b.sft"])).unwrap().len() == 2);
    }

    #[test]
    fn of_several_precisions_the_plain_one_counts() {
        let mut listed = names(&["m.fp16.safetensors", "m.safetensors", "m.fp16-00001-of-00002.safetensors"]);
        plain_only(&mut listed);
        assert_eq!(listed, ["m.safetensors"]);
        let mut listed = names(&["m.safetensors.index.fp16.json", "m.safetensors.index.json"]);
        plain_only(&mut listed);
        assert_eq!(listed, ["m.safetensors.index.json"]);
        let mut listed = names(&["m.fp16.safetensors"]);
        plain_only(&mut listed);
        assert_eq!(listed, ["m.fp16.safetensors"]);
    }
}
