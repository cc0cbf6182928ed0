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

    /// The pieces of a tokenizer that the first file brings that brings any.
    pub(crate) fn pieces(&self) -> Option<impl Iterator<Item = Option<&str>>> {
        self.shards.iter().find_map(TensorFile::pieces)
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

    /// What the first file says that says anything.
    fn note(&self, key: &str) -> Option<&str> {
        self.shards.iter().find_map(|shard| shard.note(key))
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
}

/// A format that a folder's model may be in.
struct Kept {
    /// How the names of its files end.
    ends: &'static [&'static str],
    /// What stands in the name of an index of several.
    index: &'static str,
}

/// The formats that are read, of which the first that a folder has counts: a hub's folders hold a model in several.
const KEPT: [Kept; 2] = [
    Kept { ends: &[".safetensors", ".sft"], index: ".safetensors.index." },
    Kept { ends: PICKLES, index: ".bin.index." },
];

/// What diffusers writes about a whole model, beside the folders of its parts.
pub(crate) const MODEL_INDEX: &str = "model_index.json";

const PICKLES: &[&str] = &[".bin", ".ckpt", ".pt", ".pth"];

/// How the names of models begin that diffusers and transformers pickle. Beside them lie what else a training pickled: its optimizer, its
/// state, its arguments.
const PICKLED: &[&str] = &["diffusion_pytorch_model", "pytorch_model", "model"];

/// How the names of models in other formats end.
const FOREIGN: &[&str] = &[".gguf", ".onnx", ".msgpack", ".h5"];

impl Kept {
    /// Those of a folder's files that are in this format.
    fn of(&self, names: &[String]) -> Listing {
        let ending = |ends: &[&str]| -> Vec<String> {
            let ends_so = |name: &&String| ends.iter().any(|end| name.to_lowercase().ends_with(end));
            names.iter().filter(ends_so).cloned().collect()
        };
        let (mut models, mut indexes) = (ending(self.ends), ending(&[".json"]));
        indexes.retain(|name| name.to_lowercase().contains(self.index));
        let is_usual = |name: &String| PICKLED.iter().any(|start| stem_begins(name, start));
        if self.ends == PICKLES && models.iter().any(is_usual) {
            models.retain(is_usual);
        }
        Listing { models, indexes }
    }
}

/// Whether a name is this, or this before a point or a hyphen.
fn stem_begins(name: &str, start: &str) -> bool {
    name.to_lowercase().strip_prefix(start).is_some_and(|rest| rest.starts_with(['.', '-']))
}

impl Listing {
    /// Dot files, among them what macOS writes beside each file on a foreign disk, are nobody's model.
    fn of(folder: &Path) -> Result<Self> {
        let read = |source| Error::Read { path: folder.to_owned(), source };
        let (mut names, mut foreign) = (Vec::new(), None);
        for entry in folder.read_dir().map_err(read)? {
            let Ok(name) = entry.map_err(read)?.file_name().into_string() else { continue };
            let lower = name.to_lowercase();
            if FOREIGN.iter().any(|end| lower.ends_with(end)) && !name.starts_with('.') {
                foreign.get_or_insert(name.clone());
            }
            let is_read = [KEPT[0].ends, KEPT[1].ends, &[".json"]].concat().iter().any(|end| lower.ends_with(end));
            if is_read && !name.starts_with('.') {
                names.push(name);
            }
            if names.len() > MOST_FILES {
                return Err(Error::TooManyFiles { limit: MOST_FILES });
            }
        }
        let is_whole_model = folder.join(MODEL_INDEX).exists();
        // Beside the folders of a whole model's parts lie single files of it.
        let kept = if is_whole_model { &KEPT[..1] } else { &KEPT[..] };
        let found = kept.iter().map(|kept| kept.of(&names)).find(|found| !found.is_empty());
        if let Some(found) = found {
            return Ok(found.of_one_precision());
        }
        let found = match foreign {
            _ if is_whole_model => "the folder of a whole model, which `folder` takes, not one part".into(),
            Some(foreign) => format!("a folder without one, but with `{foreign}`"),
            None => "a folder without one".into(),
        };
        Err(Error::WrongFile { expected: "a safetensors file, or one of PyTorch's".into(), found })
    }

    fn is_empty(&self) -> bool {
        self.models.is_empty() && self.indexes.is_empty()
    }

    /// Folders from the hub hold several precisions of one model; the plain one is the model.
    fn of_one_precision(mut self) -> Self {
        plain_only(&mut self.models);
        plain_only(&mut self.indexes);
        // An index of half precision is not that of a plain model beside it.
        if self.indexes.iter().any(|index| is_variant(index)) && self.models.iter().any(|model| !is_variant(model)) {
            self.indexes.clear();
        }
        self
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
            let ending = names.iter().find(|name| place(name).is_some()).and_then(|name| name.rsplit('.').next());
            let ending = ending.unwrap_or("safetensors").to_lowercase();
            let missing = format!("{stem}-{missing:05}-of-{of:05}.{ending}");
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

/// Of how many files together a file is one, by its name; `None` where it stands for itself, and of GGUF files, which tell it themselves.
pub(crate) fn shards_beside(path: &Path) -> Option<usize> {
    let place = place(path.file_name()?.to_str()?)?;
    let is_gguf = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    (path.is_file() && place.of > 1 && !is_gguf).then_some(place.of)
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
    fn a_folder_is_its_safetensors_and_without_them_its_pickled_model() {
        let listing = |listed: &[&str]| {
            let found = KEPT.iter().map(|kept| kept.of(&names(listed))).find(|found| !found.is_empty());
            found.map(Listing::of_one_precision).unwrap_or_default()
        };
        let model = "diffusion_pytorch_model.bin";
        for (listed, models) in [
            (
                &[model, "diffusion_pytorch_model.fp16.safetensors"][..],
                &["diffusion_pytorch_model.fp16.safetensors"][..],
            ),
            (&["diffusion_pytorch_model.fp16.bin", model, "diffusion_pytorch_model.non_ema.bin"], &[model]),
            (&["optimizer.bin", "pytorch_model.bin", "training_args.bin", "scheduler.bin"], &["pytorch_model.bin"]),
            (&["openvino_model.bin", "model.ckpt"], &["model.ckpt"]),
            (&["anything.pt"], &["anything.pt"]),
            (&["config.json", "README.md"], &[]),
        ] {
            assert_eq!(listing(listed).models, models, "{listed:?}");
        }
        let index = "pytorch_model.bin.index.json";
        let split = [index, "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
        assert_eq!(listing(&split).indexes, [index]);
        let missing = chosen(names(&split[1..2])).unwrap_err().to_string();
        assert!(missing.contains("pytorch_model-00002-of-00002.bin"), "{missing}");
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
