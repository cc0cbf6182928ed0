//! The files of a model: each opened once, however many of its parts it holds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use core_tensor::Place;
use diffusion_engine::family::{Duty, Kind, Part, Role};

use crate::{
    Error, Finding, NotANumber, Note, Result,
    model_files::{Beside, Kinds, ModelConfig, ModelFile, OtherConfig, Surveyed, abridged, added_words},
};

/// Names that a note holds.
const KEPT: usize = 20;

/// The files that were looked into, and what of them is used.
pub(crate) struct Files {
    used: Vec<Used>,
    /// Configs of other models beside the files, which a file in the same folder may still claim.
    others: Vec<(PathBuf, OtherConfig)>,
    claimed: BTreeSet<PathBuf>,
    /// What the tokenizers beside text encoders have of their own.
    words: Vec<(PathBuf, Vec<String>)>,
}

/// A file, and what of it is used.
struct Used {
    file: ModelFile,
    parts: Vec<usize>,
    read: BTreeSet<String>,
}

/// A part of a file, for its role.
pub(crate) struct Chosen {
    pub(crate) role: Role,
    file: usize,
    part: usize,
    kind: Arc<Kind>,
    beside: Beside,
}

impl Chosen {
    /// How much its kind asks of tensors.
    pub(crate) fn specificity(&self) -> usize {
        self.kind.specificity()
    }
}

impl Files {
    /// No files.
    pub(crate) fn new() -> Self {
        Self { used: Vec::new(), others: Vec::new(), claimed: BTreeSet::new(), words: Vec::new() }
    }

    /// The file of a path, opened where it is not yet.
    pub(crate) fn open(&mut self, path: &Path, kinds: &Kinds) -> Result<usize> {
        if let Some(open) = self.used.iter().position(|used| used.file.path == path) {
            return Ok(open);
        }
        self.used.push(Used { file: ModelFile::open(path, kinds)?, parts: vec![], read: BTreeSet::new() });
        Ok(self.used.len() - 1)
    }

    /// An opened file.
    pub(crate) fn file(&self, file: usize) -> &ModelFile {
        &self.used[file].file
    }

    /// The part of an opened file that takes a role, but for those that other roles have.
    pub(crate) fn choose(&self, file: usize, role: &Role, others: &[Chosen]) -> Result<Chosen> {
        let taken: Vec<usize> = others.iter().filter(|other| other.file == file).map(|other| other.part).collect();
        let (part, kind) = self.file(file).part_for(role, &taken)?;
        let role = Role { network: kind.network(&role.network).clone(), ..role.clone() };
        let beside = ModelConfig::of(self.file(file), &role.network)?;
        Ok(Chosen { role, file, part, kind, beside })
    }

    /// Where a part lies.
    pub(crate) fn path(&self, chosen: &Chosen) -> &Path {
        &self.file(chosen.file).path
    }

    /// Looks at a part by its header, which is used from then on; the first fault ends it.
    pub(crate) fn look(&mut self, chosen: Chosen, at: Place) -> Result<Part> {
        let Chosen { role, file, part, kind, beside: Beside { config, other } } = chosen;
        let Used { file, parts, read } = &mut self.used[file];
        let rejected = |source: Error| Error::Load { path: file.path.clone(), source: Box::new(source) };
        let surveyed = file.survey((part, &kind), &role.network, config.as_ref(), at);
        let Surveyed { fits, agrees, faults, bytes, read: found, .. } = surveyed;
        let fits = match (fits, &config) {
            (Err(error), Some(config)) => Err(config.fault(error, rejected)),
            (fits, _) => fits.map_err(|e| rejected(e.into())),
        };
        if let Err(error @ Error::ModelConfig { .. }) = fits {
            return Err(error);
        }
        agrees.map_err(rejected)?;
        if let Some(fault) = faults.into_iter().next() {
            return Err(rejected(diffusion_engine::Error::from(fault).into()));
        }
        fits?;
        parts.push(part);
        read.extend(found);
        self.claimed.extend(config.as_ref().map(|config| config.path().to_owned()));
        self.others.extend(other.map(|other| (file.path.clone(), other)));
        if role.network.duty == Duty::CLIP {
            let words = added_words(&file.path);
            self.words.extend((!words.is_empty()).then(|| (file.path.clone(), words)));
        }
        let settings = config.as_ref().map(ModelConfig::settings).unwrap_or_default();
        let part = file.part((part, &kind), role.key, settings).takes(bytes);
        Ok(if leaves_f16(role.network.duty) { part.leaving_f16() } else { part })
    }

    /// What is odd about the files that are used.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let of_file = |Used { file, parts, read }: &Used| {
            let findings = file.findings(parts, read);
            let path = file.path.clone();
            findings.into_iter().map(move |finding| Note { path: path.clone(), finding })
        };
        let used = self.used.iter().filter(|used| !used.parts.is_empty());
        let mut notes: Vec<Note> = used.flat_map(of_file).collect();
        let added = |(path, words): &(PathBuf, Vec<String>)| {
            let finding = Finding::AddedWords { words: words.len(), names: words.iter().take(KEPT).cloned().collect() };
            Note { path: path.clone(), finding }
        };
        notes.extend(self.words.iter().map(added));
        let mut told = BTreeSet::new();
        for (path, OtherConfig { path: config, class }) in &self.others {
            if !self.claimed.contains(config) && told.insert(config) {
                let finding = Finding::OtherConfig { config: config.clone(), class: class.clone() };
                notes.push(Note { path: path.clone(), finding });
            }
        }
        notes
    }

    /// The first tensor among those that are used that holds a value which is no number. Reads them all.
    pub(crate) fn not_a_number(&self) -> Option<NotANumber> {
        let of_file = |Used { file, read, .. }: &Used| {
            let tensor = read.iter().find(|name| !file.is_finite(name))?;
            Some(NotANumber { path: file.path.clone(), tensor: abridged(tensor) })
        };
        self.used.iter().filter(|used| !used.parts.is_empty()).find_map(of_file)
    }

    /// Lets the system have the memory in which the files were read.
    pub(crate) fn give_back(&self) {
        self.used.iter().for_each(|used| used.file.give_back());
    }
}

/// Whether parts of a duty have values beyond those of f16: T5's feed-forward layers and SDXL's autoencoder are known for such. transformers keeps the
/// former's second matrices in f32 (`_keep_in_fp32_modules`), diffusers all of the latter (`force_upcast`).
pub(crate) fn leaves_f16(duty: Duty) -> bool {
    duty != Duty::DENOISER
}
