//! From a path to the models in it: which files count, what each holds, and under which names.

mod container;
mod folder;
mod index;
mod kind;
mod model_config;
mod notes;
mod parts;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use core_tensor::{Compute, Error as TensorError, Form, Format, Manifest, Stored, Survey, WeightSource, Weights};
use diffusion_engine::LdmNames;
use flux::BflNames;
use lora::Dialect;
use quant::Quantised;

pub(crate) use self::{
    container::open_file,
    kind::{Layout, Role},
    model_config::{Beside, ModelConfig, OtherConfig, read_object},
    parts::Part,
};
use self::{folder::Shards, parts::owner};
pub use self::{
    index::indexed_files,
    notes::{Finding, Group, Note},
};
use crate::{Error, Result};

/// What a file without any known part is.
pub(crate) const UNKNOWN: &str = "not a model that is known here";
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

    /// What `load` would find and take, by the headers alone, in a model that computes on the CPU in `on_cpu`, or elsewhere.
    pub(crate) fn survey<T>(
        &self,
        part: usize,
        on_cpu: Option<Compute>,
        load: impl FnOnce(&Weights) -> T,
    ) -> Surveyed<T> {
        let asked = Arc::new(Asked::of(self.source.clone()));
        let renamed = renamed(asked.clone(), &self.parts[part]);
        let survey = Survey::of_model_on(on_cpu);
        let loaded = load(&under(&Weights::survey(&*renamed, &survey), &self.parts[part]));
        let read = std::mem::take(&mut *asked.names.lock().unwrap_or_else(PoisonError::into_inner));
        Surveyed { loaded, complaints: survey.complaints(), bytes: survey.bytes(), read }
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

/// What a load by the headers alone came to.
pub(crate) struct Surveyed<T> {
    pub(crate) loaded: T,
    pub(crate) complaints: Vec<core_tensor::Error>,
    /// Bytes in memory, unpacked and with matrices left in the file.
    pub(crate) bytes: [u64; 2],
    /// The tensors that were asked for, by their names in the file.
    pub(crate) read: BTreeSet<String>,
}

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

/// Keeps the names of the tensors that are asked for. Numbers in eight bits pass as plain ones: how a model is quantised is told
/// once, what it lacks beside that tensor by tensor.
struct Asked {
    source: Arc<Shards>,
    manifest: Manifest,
    names: Mutex<BTreeSet<String>>,
}

impl Asked {
    fn of(source: Arc<Shards>) -> Self {
        let forms = source.manifest().iter();
        let manifest = forms.map(|(name, form)| (name, plain(form.format), form.shape.to_vec())).collect();
        Self { source, manifest, names: Mutex::default() }
    }
}

impl WeightSource for Asked {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> std::result::Result<Stored, TensorError> {
        let missing = || TensorError::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let form = self.manifest.get(name).ok_or_else(missing)?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(Stored::hollow(form.format, form.shape.to_vec()))
    }
}

fn plain(format: Format) -> Format {
    if [Format::F8_E4M3, Format::F8_E5M2].contains(&format) { Format::BF16 } else { format }
}

/// A name from a file as a message shows it: cut, where it is longer than any name of a model.
pub(crate) fn abridged(name: &str) -> String {
    const LONGEST: usize = 120;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
