//! A model's file, or a folder of them: which files count, and what they hold together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use core_tensor::{Dtype, Stored, WeightSource, safetensors::Safetensors};

use super::{abridged, container::open_file, index::Index};
use crate::{Error, Result};

/// The most files that a model may be split into; the largest known model has 191.
pub(crate) const MOST_FILES: usize = 1024;

/// One safetensors file, or several that make one model.
pub(crate) struct Shards {
    path: PathBuf,
    shards: Vec<Safetensors>,
    /// Which shard holds a tensor, where the folder says so.
    index: Option<Index>,
    /// The names in the files of names without the wrappers in them, where there are any.
    wrapped: BTreeMap<String, String>,
}

/// What wrappers of a training leave in the middle of names: torch.compile's, FSDP's and that for checkpoints.
const WRAPPERS: &[&str] = &["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

impl Shards {
    /// Opens a file, or what a folder's index lists, or all of a folder's files.
    ///
    /// # Errors
    /// A file that can't be read; a folder that is incomplete by its index or by its files' own names, or ambiguous.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let own = path.to_owned();
        if !path.is_dir() {
            return Self::unwrapped(own, vec![open_file(path)?], None);
        }
        let Listing { models, indexes, .. } = Listing::of(path)?;
        if indexes.len() > 1 {
            return Err(Error::SeveralSplits { splits: indexes.iter().map(|index| format!("`{index}`")).collect() });
        }
        if let Some(index) = indexes.first() {
            return Self::indexed(own, Index::read(&path.join(index))?);
        }
        let shards = chosen(models)?.iter().map(|name| opened(&path.join(name))).collect::<Result<Vec<_>>>()?;
        let files = Self::unwrapped(own, shards, None)?;
        files.each_tensor_once()?;
        Ok(files)
    }

    /// Takes the wrappers out of the tensors' names.
    fn unwrapped(path: PathBuf, shards: Vec<Safetensors>, index: Option<Index>) -> Result<Self> {
        let mut files = Self { path, shards, index, wrapped: BTreeMap::new() };
        let is_wrapped = |name: &str| WRAPPERS.iter().any(|wrapper| name.contains(wrapper));
        let mut any = false;
        files.each_name(&mut |name| any |= is_wrapped(name));
        if !any {
            return Ok(files);
        }
        let mut wrapped = BTreeMap::new();
        let mut twice = None;
        files.each_name(&mut |name| {
            let bare = WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ""));
            if let Some(other) = wrapped.insert(bare, name.to_owned()) {
                twice.get_or_insert_with(|| [abridged(&other), abridged(name)]);
            }
        });
        if let Some(names) = twice {
            return Err(Error::OneNameForTwo { names });
        }
        files.wrapped = wrapped;
        Ok(files)
    }

    fn indexed(path: PathBuf, index: Index) -> Result<Self> {
        let absent = |file: &&String| !path.join(file).exists();
        if let Some(file) = index.files.iter().find(absent) {
            return Err(Error::NotThere { file: file.clone(), index: index.path.clone() });
        }
        let shards = index.files.iter().map(|file| opened(&path.join(file))).collect::<Result<Vec<_>>>()?;
        for (tensor, &shard) in &index.tensors {
            if shards[shard].form(tensor).is_none() {
                let (file, tensor) = (index.files[shard].clone(), abridged(tensor));
                return Err(Error::NotInItsFile { tensor, file, index: index.path.clone() });
            }
        }
        Self::unwrapped(path, shards, Some(index))
    }

    /// Passes on the names of tensors that the folder's index does not list, though they are in its files.
    pub(crate) fn each_unlisted(&self, see: &mut dyn FnMut(&str)) {
        let Some(index) = &self.index else { return };
        for shard in &self.shards {
            shard.each_name(&mut |name| {
                if !index.tensors.contains_key(name) {
                    see(name);
                }
            });
        }
    }

    fn each_tensor_once(&self) -> Result<()> {
        if self.shards.len() < 2 {
            return Ok(());
        }
        let mut first: BTreeMap<String, &Safetensors> = BTreeMap::new();
        let mut twice = None;
        for shard in &self.shards {
            shard.each_name(&mut |name| {
                if let Some(other) = first.insert(name.to_owned(), shard) {
                    twice.get_or_insert((abridged(name), [other, shard].map(|shard| name_of(shard.path()))));
                }
            });
        }
        twice.map_or(Ok(()), |(tensor, files)| Err(Error::InTwoFiles { tensor, files }))
    }

    /// The file that holds a tensor, and the tensor's name in it.
    fn holding<'a>(&'a self, name: &'a str) -> Option<(&'a Safetensors, &'a str)> {
        let name = match self.wrapped.is_empty() {
            true => name,
            false => self.wrapped.get(name)?,
        };
        let shard = match &self.index {
            Some(index) => self.shards.get(*index.tensors.get(name)?),
            None => self.shards.iter().find(|shard| shard.form(name).is_some()),
        };
        Some((shard?, name))
    }
}

impl WeightSource for Shards {
    fn label(&self) -> String {
        format!("`{}`", self.path.display())
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.each_name(&mut |name| names.push(name.to_owned()));
        names
    }

    fn each_name(&self, see: &mut dyn FnMut(&str)) {
        if !self.wrapped.is_empty() {
            return self.wrapped.keys().for_each(|name| see(name));
        }
        match &self.index {
            Some(index) => index.tensors.keys().for_each(|name| see(name)),
            None => self.shards.iter().for_each(|shard| shard.each_name(see)),
        }
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let (shard, name) = self.holding(name)?;
        shard.form(name)
    }

    fn read(&self, name: &str) -> Option<Stored> {
        let (shard, name) = self.holding(name)?;
        shard.read(name)
    }
}

/// A file of a folder; an error says which.
fn opened(path: &Path) -> Result<Safetensors> {
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
        Err(Error::WrongFile { expected: "a safetensors file", found })
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
