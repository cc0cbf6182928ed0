//! From a path to the models in it: which files count, what each holds, and under which names.

mod container;
mod folder;
mod index;
mod kind;
mod model_config;
pub(crate) mod networks;
mod notes;
mod parts;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use core_tensor::{
    Branch, Compute, Device, Error as TensorError, Form, Format, Manifest, Residency, Stored, WeightSource, Weights,
};
use diffusion_engine::LdmNames;
use flux::BflNames;
use lora::Dialect;
use quant::Quantised;

pub(crate) use self::{
    container::open_file,
    kind::{Layout, Role},
    model_config::{Beside, ModelConfig, OtherConfig, read_object},
    networks::Network,
    parts::Part,
};
use self::{folder::Shards, parts::owner};
pub use self::{
    index::indexed_files,
    notes::{Finding, Group, Note},
};
use crate::{Error, Result};

/// What a file without any known part is.
pub(crate) const UNKNOWN: &str = "an unknown model";
/// What a file of a LoRA's tensors is.
pub(crate) const LORA: &str = "a LoRA";

/// A model's file or folder, opened.
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    source: Arc<Shards>,
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
}

impl Count {
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
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
        let source = Arc::new(Shards::open(path).map_err(load)?);
        let parts = parts::parts(source.manifest());
        let mut counts = vec![Count::default(); parts.len() + 1];
        let mut lora: Option<(Dialect, usize)> = None;
        // One marker stands for the whole file, under whatever prefix it lies.
        let mut marked = false;
        for (name, form) in source.manifest().iter() {
            if let Some(dialect) = Dialect::of_name(name) {
                lora.get_or_insert((dialect, 0)).1 += 1;
            }
            let part = owner(&parts, name);
            marked |= name.rsplit('.').next() == Some("scaled_fp8");
            let reads = part.is_none_or(|part| !notes::is_of_no_use(&parts[part], name));
            counts[part.unwrap_or(parts.len())].see(name, form, reads);
        }
        if marked {
            counts.iter_mut().for_each(|count| count.quantised.mark_scaled());
        }
        Ok(Self { path: path.to_owned(), source, parts, counts, lora })
    }

    /// Lets the system have the memory in which the file was read.
    pub(crate) fn give_back(&self) {
        self.source.give_back();
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
        let has_usable = self.parts.iter().any(|part| part.usable().is_some());
        let is_lora = self.parts.is_empty() || !has_usable && tensors > self.total().tensors / 2;
        is_lora.then_some(dialect)
    }

    /// The part for a role.
    ///
    /// # Errors
    /// [`Error::WrongFile`] that says what the file holds in its place, or [`Error::Quantised`].
    pub(crate) fn part_for(&self, role: Role) -> Result<usize> {
        let wrong = |source: Error| Error::Load { path: self.path.clone(), source: Box::new(source) };
        let other = |found: &str| Err(wrong(Error::WrongFile { expected: role.name(), found: found.to_owned() }));
        if self.lora().is_some() {
            return other(LORA);
        }
        let usable = |part: &Part| part.usable().is_some_and(|(place, _)| place == role);
        let quantised = |model, found: Option<(quant::Scheme, usize)>| match found {
            Some((scheme, tensors)) => Err(wrong(Error::Quantised { model, scheme, tensors })),
            None => Ok(()),
        };
        if let Some(part) = self.parts.iter().position(usable) {
            quantised(self.parts[part].kind.name, self.count(part).quantised.found())?;
            return Ok(part);
        }
        let in_place = self.parts.iter().find(|part| part.kind.place == role);
        match in_place.or(self.parts.first()) {
            Some(part) => other(part.kind.name),
            None => {
                quantised("this model", self.total().quantised.found())?;
                other(UNKNOWN)
            }
        }
    }

    /// A part's tensors, under the names that its network asks for.
    pub(crate) fn source(&self, part: usize) -> Box<dyn WeightSource> {
        renamed(self.source.clone(), &self.parts[part])
    }

    /// What a network of this role would find in a part and take of memory, by the headers alone, where it computes on the CPU in
    /// `on_cpu`, or elsewhere.
    pub(crate) fn survey<D>(
        &self,
        part: usize,
        role: Role,
        config: Option<&ModelConfig>,
        on_cpu: Option<Compute>,
        network: impl FnOnce(&Weights) -> Network<D>,
    ) -> Surveyed<D> {
        let asked = Arc::new(Asked { source: self.source.clone(), names: Mutex::default() });
        let renamed = renamed(asked.clone(), &self.parts[part]);
        let w = Weights::of(&*renamed, &Device::flex(), Residency::Mapped);
        let w = under(&w, &self.parts[part]).before(role.mark());
        let agrees = config.map_or(Ok(()), |config| config.agrees(role, &w));
        match network(&w) {
            Ok((network, layout)) => {
                let w = w.laid_out(layout);
                w.read_all().for_each(drop);
                let read = std::mem::take(&mut *asked.names.lock().unwrap_or_else(PoisonError::into_inner));
                let faults = w.faults().filter(|fault| !is_eight_bits(fault)).take(MOST_FAULTS).collect();
                Surveyed { network: Ok(network), agrees, faults, bytes: w.bytes(on_cpu), read }
            }
            Err(error) => {
                Surveyed { network: Err(error), agrees, faults: Vec::new(), bytes: [0; 2], read: BTreeSet::new() }
            }
        }
    }

    /// What is odd about the file, once the parts that were surveyed are known to fit.
    pub(crate) fn findings(&self, used: &[usize], read: &BTreeSet<String>) -> Vec<Finding> {
        let mut findings = notes::leftovers(self.source.manifest(), &self.parts, used, read);
        findings.extend(notes::others(&self.parts, used));
        findings.extend(notes::zeros(&*self.source, read));
        findings.extend(notes::unlisted(&self.source));
        findings
    }
}

/// What a look at the headers came to.
pub(crate) struct Surveyed<D> {
    /// The network's dimensions.
    pub(crate) network: std::result::Result<D, diffusion_engine::Error>,
    /// Whether the config beside it says the same.
    pub(crate) agrees: Result<()>,
    /// Tensors that are missing or don't fit, at most [`MOST_FAULTS`].
    pub(crate) faults: Vec<TensorError>,
    /// Bytes in memory, unpacked and with matrices left in the file.
    pub(crate) bytes: [u64; 2],
    /// The tensors that the network reads, by their names in the file.
    pub(crate) read: BTreeSet<String>,
}

/// The most faults of a part that are looked for.
pub(crate) const MOST_FAULTS: usize = 100;

/// The view of a part's tensors.
pub(crate) fn under<'a>(w: &Weights<'a>, part: &Part) -> Weights<'a> {
    match part.prefix.strip_suffix('.') {
        Some(prefix) => w.at(prefix),
        None => w.clone(),
    }
}

fn renamed<S: WeightSource + 'static>(source: S, part: &Part) -> Box<dyn WeightSource> {
    match part.usable() {
        Some((Role::Transformer, Layout::Diffusers)) => Box::new(BflNames::under(&*part.prefix, source)),
        Some((Role::Autoencoder, Layout::Diffusers)) => Box::new(LdmNames::under(&*part.prefix, source)),
        Some((Role::Clip | Role::T5, Layout::Diffusers)) | Some((_, Layout::Original)) | None => Box::new(source),
    }
}

/// Keeps the names of the tensors that are read.
struct Asked {
    source: Arc<Shards>,
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
