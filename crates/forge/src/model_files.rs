//! From a path to the models in it: which files count, what each holds, and under which names.

mod container;
mod folder;
mod index;
mod kinds;
mod known;
mod model_config;
mod notes;
mod parts;
mod tokenizer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use core_tensor::{
    Branch, Device, Error as TensorError, Footprint, Form, Format, Layout, Manifest, Place, Residency, Stored,
    WeightSource, Weights,
};
use diffusion_engine::{
    T5Tokenizer,
    family::{self, Duty, Kind, Network, Role, Settings},
};
use lora::Dialect;
use quant::{DecodeFault, Decoded, Fp8, Quantised};

use self::folder::Shards;
pub(crate) use self::folder::{MODEL_INDEX, only_file, shards_beside};
pub(crate) use self::{
    container::{TensorFile, open_file, regular},
    kinds::Kinds,
    known::kinds as known_kinds,
    model_config::{Beside, CONFIG, ModelConfig, OtherConfig, object_of, read_object},
    parts::{Part, owner, parts},
    tokenizer::{added_words, tokenizer_files},
};
pub use self::{
    index::indexed_files,
    notes::{Finding, Group, Note},
};
use crate::{Error, Result};

/// What a file without any known part is.
pub(crate) const UNKNOWN: &str = "an unknown model";
/// What to call it where its tensors are spoken of.
const THIS_MODEL: &str = "this model";
/// What a file of a LoRA's tensors is.
pub(crate) const LORA: &str = "a LoRA";

/// A model's file or folder, opened.
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    shards: Arc<Shards>,
    /// The shards, or what they are once they are decoded.
    source: Arc<dyn WeightSource>,
    pub(crate) parts: Vec<Part>,
    /// Of each part, and behind them of what belongs to none.
    counts: Vec<Count>,
    lora: Option<(Dialect, usize)>,
}

/// What there is of a part, by the headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    pub(crate) tensors: usize,
    pub(crate) parameters: u64,
    /// Parameters by number format.
    pub(crate) dtypes: BTreeMap<String, u64>,
    pub(crate) quantised: Quantised,
    /// The first tensor that is quantised and can't be decoded, and why.
    malformed: Option<(String, Arc<DecodeFault>)>,
    /// What is known of its eight-bit floats that networks read.
    scales: Scales,
    /// The same of all of them.
    all_scales: Scales,
}

/// What is known of matrices of eight-bit floats, and of convolutions: converters scale the former, or both.
#[derive(Clone, Debug, Default)]
struct Scales([ScalesOf; 2]);

/// What is known of those of one kind.
#[derive(Clone, Debug, Default)]
struct ScalesOf {
    /// Whether any has a scale, or a marker says so.
    are_there: bool,
    /// The first that has none.
    without: Option<String>,
}

impl Scales {
    fn see(&mut self, name: &str, Fp8 { is_scaled, is_marked, is_convolution }: Fp8) {
        let of = &mut self.0[usize::from(is_convolution)];
        of.are_there |= is_scaled || is_marked;
        if !is_scaled {
            of.without.get_or_insert_with(|| abridged(name));
        }
    }

    /// That one has no scale, though others of its kind have.
    fn refusal(&self) -> Option<Error> {
        let tensor = self.0.iter().find_map(|of| of.without.clone().filter(|_| of.are_there))?;
        Some(Error::Unscaled { tensor })
    }
}

impl Count {
    /// That a quantised tensor can't be decoded.
    pub(crate) fn malformed(&self) -> Option<Error> {
        let (tensor, fault) = self.malformed.clone()?;
        Some(Error::Malformed { tensor, fault })
    }

    /// That a matrix of eight-bit floats has no scale, though others have.
    pub(crate) fn unscaled(&self) -> Option<Error> {
        self.scales.refusal()
    }

    /// Why such a model can't be computed with, as it is stored.
    fn refusal(&self, model: &str) -> Option<Error> {
        let tensor = || abridged(self.quantised.told_by());
        let quantised =
            |(scheme, tensors)| Error::Quantised { model: model.to_owned(), scheme, tensors, tensor: tensor() };
        self.malformed().or_else(|| self.quantised.found().map(quantised)).or_else(|| self.unscaled())
    }

    fn see(&mut self, name: &str, form: Form, reads: bool) {
        let parameters = form.shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(parameters);
        let of_dtype = self.dtypes.entry(form.format.name().to_owned()).or_default();
        *of_dtype = of_dtype.saturating_add(parameters);
        if reads {
            self.quantised.see(name, form.format);
        }
    }

    fn add(&mut self, other: &Self) {
        self.tensors += other.tensors;
        self.parameters = self.parameters.saturating_add(other.parameters);
        for (dtype, parameters) in &other.dtypes {
            let of_dtype = self.dtypes.entry(dtype.clone()).or_default();
            *of_dtype = of_dtype.saturating_add(*parameters);
        }
        self.quantised.add(&other.quantised);
    }
}

impl ModelFile {
    /// Opens a file or a folder, and tells its parts.
    pub(crate) fn open(path: &Path, kinds: &Kinds) -> Result<Self> {
        let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
        let shards = Arc::new(Shards::open(path).map_err(load)?);
        let decoded = Decoded::<Arc<Shards>>::is_needed(shards.manifest()).then(|| Decoded::over(shards.clone()));
        let decoded = decoded.transpose().map_err(|error| load(error.into()))?.map(Arc::new);
        let source: Arc<dyn WeightSource> = match &decoded {
            Some(decoded) => decoded.clone(),
            None => shards.clone(),
        };
        let parts = parts(source.manifest(), kinds);
        let mut counts = vec![Count::default(); parts.len() + 1];
        let mut lora: Option<(Dialect, usize)> = None;
        for (name, form) in source.manifest().iter() {
            if let Some(dialect) = Dialect::of_name(name) {
                lora.get_or_insert((dialect, 0)).1 += 1;
            }
            let part = owner(&parts, name);
            let reads = part.is_none_or(|part| !notes::is_of_no_use(&parts[part], name));
            let count = &mut counts[part.unwrap_or(parts.len())];
            count.see(name, form, reads);
            let Some(decoded) = &decoded else { continue };
            if let Some(fp8) = decoded.fp8(name) {
                count.all_scales.see(name, fp8);
                if reads {
                    count.scales.see(name, fp8);
                }
            }
            if let Some(fault) = decoded.fault(name).filter(|_| reads) {
                count.malformed.get_or_insert_with(|| (abridged(name), fault.clone()));
            }
        }
        Ok(Self { path: path.to_owned(), shards, source, parts, counts, lora })
    }

    /// Lets the system have the memory in which the file was read.
    pub(crate) fn give_back(&self) {
        self.shards.give_back();
    }

    /// What a part holds.
    pub(crate) fn count(&self, part: usize) -> &Count {
        &self.counts[part]
    }

    /// What the whole file holds.
    pub(crate) fn total(&self) -> Count {
        let mut total = Count::default();
        self.counts.iter().for_each(|count| total.add(count));
        total
    }

    /// The dialect, where the file is a LoRA: it has its tensors and no model that they could have been left in.
    pub(crate) fn lora(&self) -> Option<Dialect> {
        let (dialect, tensors) = self.lora?;
        let has_usable = self.parts.iter().any(|part| part.is_usable);
        let is_lora = self.parts.is_empty() || !has_usable && tensors > self.total().tensors / 2;
        is_lora.then_some(dialect)
    }

    /// What the file is, with its article.
    pub(crate) fn name(&self) -> &str {
        match self.parts.first() {
            _ if self.lora().is_some() => LORA,
            Some(part) => &part.kind.name,
            None => UNKNOWN,
        }
    }

    /// The part for a role, and what it is to that, but for those in `taken`, which other roles have.
    ///
    /// # Errors
    /// [`Error::WrongFile`] that says what the file holds in its place, or [`Error::Quantised`].
    pub(crate) fn part_for(&self, role: &Role, taken: &[usize]) -> Result<(usize, Arc<Kind>)> {
        let wrong = |source: Error| Error::Load { path: self.path.clone(), source: Box::new(source) };
        let other =
            |found: &str| Err(wrong(Error::WrongFile { expected: role.expected.clone(), found: found.to_owned() }));
        if self.lora().is_some() {
            return other(LORA);
        }
        let duty = role.network.duty;
        let open = || self.parts.iter().enumerate().filter(|(at, _)| !taken.contains(at));
        let of_kind = |id: &String| {
            let is = |(at, part): (usize, &Part)| Some((at, part.by(id).filter(|kind| kind.duty == duty)?.clone()));
            open().find_map(is)
        };
        if let Some((part, kind)) = role.takes.iter().find_map(of_kind) {
            if let Some(refusal) = self.count(part).refusal(&kind.name) {
                return Err(wrong(refusal));
            }
            if let Some(pieces) = self.shards.pieces().filter(|_| duty == Duty::T5) {
                let known = T5Tokenizer::new().and_then(|tokenizer| tokenizer.agrees(pieces));
                known.map_err(|error| wrong(error.into()))?;
            }
            return Ok((part, kind));
        }
        match self.in_place_of(role).or(self.parts.first()) {
            Some(part) => other(&part.kind.name),
            None => {
                self.count(0).refusal(THIS_MODEL).map_or(Ok(()), |refusal| Err(wrong(refusal)))?;
                other(UNKNOWN)
            }
        }
    }

    /// Finds out whether the values of all tensors can be read, and not only those that a part needs.
    ///
    /// # Errors
    /// As [`ModelFile::part_for`] for how a part is stored, and the same for tensors that belong to none.
    pub(crate) fn is_readable(&self) -> Result<()> {
        let models = self.parts.iter().map(|part| &*part.kind.name).chain([THIS_MODEL]);
        let refusal = |(count, model): (&Count, &str)| count.refusal(model).or_else(|| count.all_scales.refusal());
        match self.counts.iter().zip(models).find_map(refusal) {
            Some(refusal) => Err(Error::Load { path: self.path.clone(), source: Box::new(refusal) }),
            None => Ok(()),
        }
    }

    /// The first part that has a role's duty.
    pub(crate) fn in_place_of(&self, role: &Role) -> Option<&Part> {
        self.parts.iter().find(|part| part.kind.duty == role.network.duty)
    }

    /// A part's tensors as those of a kind, under the names that its network asks for.
    pub(crate) fn source(&self, part: usize, kind: &Kind) -> Arc<dyn WeightSource> {
        kind.source(self.source.clone(), &self.parts[part].prefix)
    }

    /// The names of the tensors of which nothing is made in [`ModelFile::source`].
    pub(crate) fn beside_source(&self, part: usize, kind: &Kind) -> Vec<&str> {
        let asked = Arc::new(Asked { source: self.source.clone(), names: Mutex::default() });
        let renamed = kind.source(asked.clone(), &self.parts[part].prefix);
        renamed.manifest().names().for_each(|name| drop(renamed.read(name)));
        let names = asked.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.source.manifest().names().filter(|name| !names.contains(*name)).collect()
    }

    /// What the file says of itself under a key.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.shards.note(key)
    }

    /// All tensors, under the names that they have in the file.
    pub(crate) fn tensors(&self) -> Arc<dyn WeightSource> {
        self.source.clone()
    }

    /// A part as one of a kind, for the role of a key, with what its config says.
    pub(crate) fn part(&self, (part, kind): (usize, &Kind), key: String, settings: Settings) -> family::Part {
        let prefix = self.parts[part].prefix.clone();
        let of_file = family::Part::of(key, kind.id.clone(), self.source.clone(), prefix);
        of_file.renamed(self.source(part, kind)).settings(settings)
    }

    /// What a network would find in a part, as one of a kind, and take of memory, by the headers alone, at a place.
    pub(crate) fn survey(
        &self,
        (part, kind): (usize, &Kind),
        network: &Network,
        config: Option<&ModelConfig>,
        at: Place,
    ) -> Surveyed {
        let asked = Arc::new(Asked { source: self.source.clone(), names: Mutex::default() });
        let prefix = &self.parts[part].prefix;
        let renamed = kind.source(asked.clone(), prefix);
        let w = Weights::of(&*renamed, &Device::flex(), Residency::Mapped);
        let w = match prefix.strip_suffix('.') {
            Some(prefix) => w.at(prefix),
            None => w,
        };
        let w = w.before(&network.mark);
        let agrees = config.map_or(Ok(()), |config| config.agrees(network, &w));
        let variant = network.variant_of(&w);
        let settings = config.map(ModelConfig::settings).unwrap_or_default();
        let mut surveyed = Surveyed {
            variant,
            fits: Ok(()),
            agrees,
            faults: vec![],
            bytes: Footprint::default(),
            read: BTreeSet::new(),
        };
        match network.layout(&w, &settings) {
            Ok(layout) => surveyed.see(&w, layout, at, || {
                std::mem::take(&mut *asked.names.lock().unwrap_or_else(PoisonError::into_inner))
            }),
            Err(error) => surveyed.fits = Err(error),
        }
        surveyed
    }

    /// Whether a tensor holds nothing but numbers, as far as it can be read.
    pub(crate) fn is_finite(&self, tensor: &str) -> bool {
        self.source.read(tensor).is_ok_and(|stored| stored.is_finite())
    }

    /// What is odd about the file, once the parts that were surveyed are known to fit.
    pub(crate) fn findings(&self, used: &[usize], read: &BTreeSet<String>) -> Vec<Finding> {
        let mut findings = notes::leftovers(self.source.manifest(), &self.parts, used, read);
        let others = notes::others(&self.parts, used);
        findings.extend(notes::average(self.source.manifest(), &others));
        findings.extend(others);
        findings.extend(notes::zeros(&*self.source, read));
        findings.extend(notes::unlisted(&self.shards));
        findings
    }
}

/// What a look at the headers came to.
pub(crate) struct Surveyed {
    /// Which variant of its network it is.
    pub(crate) variant: String,
    /// Whether the tensors make such a network at all.
    pub(crate) fits: std::result::Result<(), diffusion_engine::Error>,
    /// Whether the config beside it says the same.
    pub(crate) agrees: Result<()>,
    /// Tensors that are missing or don't fit, at most [`MOST_FAULTS`].
    pub(crate) faults: Vec<TensorError>,
    /// What it takes of memory.
    pub(crate) bytes: Footprint,
    /// The tensors that the network reads, by their names in the file.
    pub(crate) read: BTreeSet<String>,
}

impl Surveyed {
    fn see(&mut self, w: &Weights, layout: Layout, at: Place, read: impl FnOnce() -> BTreeSet<String>) {
        let w = w.laid_out(layout);
        w.read_all().for_each(drop);
        self.read = read();
        self.faults = w.faults().filter(|fault| !is_eight_bits(fault)).take(MOST_FAULTS).collect();
        self.bytes = w.bytes(at);
    }
}

/// The most faults of a part that are looked for.
pub(crate) const MOST_FAULTS: usize = 100;

/// Keeps the names of the tensors that are read.
struct Asked {
    source: Arc<dyn WeightSource>,
    names: Mutex<BTreeSet<String>>,
}

impl WeightSource for Asked {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn read(&self, name: &str) -> std::result::Result<Stored, TensorError> {
        let stored = self.source.read(name)?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(stored)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.source.branches(name)
    }
}

/// Whether a fault is that a tensor has eight bits: how a model is quantised is told once, what it lacks beside that tensor by tensor.
fn is_eight_bits(fault: &TensorError) -> bool {
    matches!(fault, TensorError::Format { found, .. } if [Format::F8_E4M3, Format::F8_E5M2].contains(found))
}

/// A name from a file as a message shows it: cut, where it is longer than any name of a model.
pub(crate) fn abridged(name: &str) -> String {
    const LONGEST: usize = 120;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
