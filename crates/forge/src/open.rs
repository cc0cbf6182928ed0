//! From a config to an opened model: its family, its parts by their headers, and how much of it is unpacked.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    iter,
    path::{Path, PathBuf},
    sync::Arc,
};

use core_tensor::{Compute, Place, Residency, ops};
use diffusion_engine::{
    Cancel, Embedding, Error as RunError, Family, Job, Model, OpenedModel, TinyAutoencoder,
    family::{Duty, Parts, Placement, Work, work},
};
use lora::{Adapted, Dora, Target};
use memory::{Bytes, Held, Part, Plan, Share, Stage};

use crate::{
    Backend, Ceiling, Config, Error, Families, Note, Result,
    beside::{beside, scheduler},
    brought::brought,
    detect::{Detected, detect},
    embeddings::embeddings,
    encoder_beside::with_encoder,
    files::{Chosen, Files, leaves_f16},
    loras::{LoadedLora, LoraSet},
    model_files::only_file,
    opened_device::opened_device,
    preview_decoder::{PreviewDecoder, decoding_bytes, preview_decoder},
    process,
    stoppable::Stop,
};

/// The files of a model, looked at by their headers: nothing is wrong with them, and nothing is loaded yet.
pub(crate) struct Opened {
    files: Files,
    /// Where each part lies.
    paths: BTreeMap<String, PathBuf>,
    /// The first part's, if it is one.
    file: Option<PathBuf>,
    /// The autoencoder's file or folder, where the config names one of its own.
    vae: Option<PathBuf>,
    model: Box<dyn OpenedModel>,
    /// Whose it is, and its parts, for what is added to them.
    family: Arc<dyn Family>,
    parts: Parts,
    loras: LoraSet,
    device: core_tensor::Device,
    /// What configs call the device.
    backend: Backend,
    compute: Compute,
    ceiling: Ceiling,
    /// What is odd about the textual inversions.
    notes: Vec<Note>,
    /// What previews are decoded by.
    preview: Option<PreviewDecoder>,
    /// Interrupts the reading of weights.
    stop: Stop,
    /// Bytes of the textual inversions.
    embeddings: u64,
}

/// What a plan calls the LoRAs.
const LORAS: &str = "loras";

impl Opened {
    /// Looks at the files of a config.
    pub(crate) fn of(config: &Config, families: &Families) -> Result<Self> {
        let (device, compute) = opened_device(&config.device.backend.to_string(), || config.compute())?;
        let mut files = Files::new();
        // All parts are told for what they are before any is looked into.
        let Detected { family, parts } = detect(config, families, &mut files)?;
        let path_of = |part| files.path(part).to_owned();
        let paths: BTreeMap<String, PathBuf> =
            parts.iter().map(|part| (part.role.key.clone(), path_of(part))).collect();
        let first = parts.first().map(|part| files.path(part).to_owned());
        let file = first.as_deref().and_then(only_file);
        // By the headers alone: what is missing, what doesn't fit, and what it takes.
        let look = |part: Chosen| {
            let path = files.path(&part).to_owned();
            let compute = if leaves_f16(part.role.network.duty) { ops::beyond_f16(compute, &device) } else { compute };
            let at = Place::of(&device, compute);
            with_encoder(files.look(part, at)?, &path, at)
        };
        let parts = parts.into_iter().map(look).collect::<Result<Vec<_>>>()?;
        let folder = config.model.folder.as_deref();
        let parts =
            beside(first.as_deref(), folder, Parts::of(first.as_deref().map_or_else(String::new, name), parts))?;
        let (parts, notes, vectors) = match &config.prompt.embeddings {
            Some(_) if !family.takes_embeddings() => {
                return Err(Error::Value {
                    key: "prompt.embeddings".into(),
                    expected: format!("nothing, as {} takes no textual inversions", family.name()),
                    found: "a folder".into(),
                });
            }
            Some(folder) => {
                let (embeddings, notes) = embeddings(folder)?;
                let bytes = embeddings.iter().map(Embedding::bytes).fold(0, u64::saturating_add);
                (parts.embeddings(embeddings), notes, bytes)
            }
            None => (parts, Vec::new(), 0),
        };
        let stop = Stop::default();
        let parts = parts.map(|part| part.adapted(|source| stop.of(source)));
        let (parts, loras) = adaptable(parts, &*family);
        let model =
            family.open(parts.clone()).map_err(|error| match (error, first.as_deref().and_then(scheduler)) {
                // What a part's own config has wrong is told with the part.
                (RunError::Settings { source }, Some(path)) => Error::ModelConfig { path, source },
                (error, _) => in_its_file(error, &paths),
            })?;
        let preview = config.preview.decoder.as_deref();
        let preview = preview
            .map(|path| preview_decoder(path, model.card(), &device, ops::beyond_f16(compute, &device)))
            .transpose()?;
        let vae = config.model.vae.clone();
        let (ceiling, backend) = (config.ceiling(), config.device.backend);
        Ok(Self {
            files,
            paths,
            file,
            vae,
            model,
            family,
            parts,
            loras,
            device,
            backend,
            compute,
            ceiling,
            notes,
            preview,
            stop,
            embeddings: vectors,
        })
    }

    /// What previews are decoded by, where the config names it.
    pub(crate) fn preview(&self) -> Option<Arc<TinyAutoencoder>> {
        self.preview.as_ref().map(|preview| preview.decoder.clone())
    }

    /// What the infotext calls the model.
    pub(crate) fn name(&self) -> &str {
        &self.model.card().name
    }

    /// What sides of pictures are multiples of.
    pub(crate) fn size_multiple(&self) -> usize {
        self.model.card().size_multiple
    }

    /// The file by whose hash the model is known; `None` where there are several.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The autoencoder's file or folder, where it is not the model's own.
    pub(crate) fn vae(&self) -> Option<&Path> {
        self.vae.as_deref()
    }

    /// What is odd about the files.
    pub(crate) fn notes(&self) -> Vec<Note> {
        [self.files.notes(), self.notes.clone()].concat()
    }

    /// An error of a run, with the tensor that it comes from where that is one of a file's values.
    pub(crate) fn explained(&self, error: RunError) -> Error {
        let is_not_finite = |error: &(dyn StdError + 'static)| {
            matches!(error.downcast_ref(), Some(RunError::NotFinite { .. }))
                || matches!(error.downcast_ref(), Some(samplers::Error::NotFinite { .. }))
        };
        let chain = || iter::successors(Some(&error as &(dyn StdError + 'static)), |&error| error.source());
        match chain().any(is_not_finite).then(|| self.files.not_a_number()).flatten() {
            Some(source) => {
                let what = chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
                Error::Damaged { what, source }
            }
            None => brought(error),
        }
    }

    /// What configs call the device, where it has memory of its own.
    pub(crate) fn own_memory(&self) -> Option<String> {
        (self.backend != Backend::Cpu).then(|| self.backend.to_string())
    }

    /// What computes.
    pub(crate) fn device(&self) -> &core_tensor::Device {
        &self.device
    }

    /// How much memory a job may take.
    pub(crate) fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    /// Finds out what the model can't do of a job, before anything is loaded for it.
    pub(crate) fn fits(&self, job: &Job) -> Result<()> {
        Ok(self.model.fits(job)?)
    }

    /// What of a job is this model's, where its LoRAs have so many bytes and networks between its passes take so many, beside what the
    /// whole job and its process hold; and the room for an autoencoder's maps, where they have to be computed in tiles. As these differ a
    /// little from the whole, that is only where nothing else makes room.
    pub(crate) fn plan(&self, job: &Job, loras: u64, enlarging: Bytes, shared: &[Part]) -> Result<(Plan, Option<u64>)> {
        let ceiling = self.ceiling.bytes;
        let (parts, stages) = self.holds(job, loras, enlarging, shared);
        let at_once = Plan::under(ceiling, parts.clone(), stages.clone());
        match Plan::room(ceiling, &parts, &stages) {
            Some(room) if at_once.is_err() => {
                let room = room.0.min(job.room().unwrap_or(u64::MAX));
                let (parts, stages) = self.holds(&job.clone().within(room), loras, enlarging, shared);
                Ok((Plan::under(ceiling, parts, stages).map_err(|error| self.ceiling.told(error))?, Some(room)))
            }
            Some(_) | None => Ok((at_once.map_err(|error| self.ceiling.told(error))?, job.room())),
        }
    }

    /// The parts and stages of that.
    fn holds(&self, job: &Job, loras: u64, enlarging: Bytes, shared: &[Part]) -> (Vec<Part>, Vec<Stage>) {
        let parts = self.model.bytes();
        // Text encoders work in turn.
        let unpacking = parts.iter().map(|part| part.unpacking).max().unwrap_or(0);
        let Work { kept, mut stages } = self.model.work(job);
        if unpacking > 0 {
            let held = Held::fixed("a matrix", Bytes(unpacking));
            let encode = |stage: &&mut Stage| [work::ENCODE, work::ENLARGE].contains(&&*stage.name);
            stages.iter_mut().filter(encode).for_each(|stage| stage.holds.push(held.clone()));
        }
        let kept = kept.into_iter().map(|held| Part::fixed(held.name, held.bytes));
        if let Some(preview) = &self.preview {
            let held = Held::fixed("a preview", Bytes(decoding_bytes(&preview.decoder, self.model.card(), job)));
            stages
                .iter_mut()
                .filter(|stage| stage.name == work::SAMPLE)
                .for_each(|stage| stage.holds.push(held.clone()));
        }
        if enlarging.0 > 0 {
            let holds =
                vec![Held::fixed("the upscaler's maps", enlarging), Held::fixed("pictures", Bytes(Work::decoded(job)))];
            let is_behind = |stage: &Stage| [work::ENLARGE, work::DECODE].contains(&&*stage.name);
            let before = stages.iter().position(is_behind).unwrap_or(stages.len());
            stages.insert(before, Stage { name: work::ENLARGE.to_owned(), holds });
        }
        if self.multiplies_integers() {
            for (of, bytes) in self.model.integers(job) {
                let held = Held::fixed("inputs as integers", Bytes(bytes));
                stages.iter_mut().filter(|stage| stage.name == of).for_each(|stage| stage.holds.push(held.clone()));
            }
        }
        // As they are stored and as they are multiplied with, in up to twice as much.
        let loras = Bytes(loras.saturating_mul(2));
        let loras = (loras.0 > 0).then(|| Part::fixed(LORAS, loras));
        let embeddings = (self.embeddings > 0).then(|| Part::fixed("embeddings", Bytes(self.embeddings)));
        let preview = self.preview.as_ref().map(|preview| Part::fixed("preview decoder", Bytes(preview.weights)));
        let loras = loras.into_iter().chain(embeddings).chain(preview);
        let parts = parts.into_iter().map(|bytes| bytes.part).chain(loras).chain(kept).chain(shared.iter().cloned());
        (parts.collect(), stages)
    }

    /// Whether weights of its files are multiplied as integers.
    fn multiplies_integers(&self) -> bool {
        let has_some = |part: &diffusion_engine::family::Part| {
            part.source().manifest().iter().any(|(_, form)| form.format.integers().is_some())
        };
        self.compute == Compute::Integers && self.parts.iter().any(has_some)
    }

    /// How a plan would have the model loaded.
    pub(crate) fn placement(&self, plan: &Plan) -> Placement {
        // What a part takes that is not unpacked has what passes with it in the plan.
        let choices: BTreeMap<_, _> =
            self.model.bytes().into_iter().map(|bytes| (bytes.part.name, bytes.either)).collect();
        let unpacked = plan.parts.iter().filter(|(part, _)| part.has_a_choice()).map(|(part, share)| {
            let residency = match *share {
                Share::All => Residency::Unpacked,
                Share::UpTo(bytes) => {
                    let of = choices.get(&part.name).copied().unwrap_or(bytes.0);
                    Residency::UpTo { bytes: bytes.0, of }
                }
                Share::Nothing => Residency::Mapped,
            };
            (part.name.clone(), residency)
        });
        let unpacked = unpacked.collect();
        Placement { device: self.device.clone(), compute: self.compute, unpacked }
    }

    /// Gives back the memory in which files were read; what is read of them again, the system brings back.
    pub(crate) fn give_back(&self) {
        self.files.give_back();
    }

    /// Has the allocator keep no more for later than a job leaves of the ceiling, by the plan of all models that are there for it. What it
    /// keeps is none of a device's memory.
    pub(crate) fn limit_kept(&self, told: &Plan) {
        process::limit_kept(if self.own_memory().is_some() {
            Bytes(u64::MAX)
        } else {
            told.left_of(self.ceiling.bytes)
        });
    }

    /// Loads the model as a plan says, unless somebody asks to stop. The LoRAs that are in the loaded one are in it too.
    pub(crate) fn load(&self, plan: &Plan, cancel: &Cancel) -> Result<Arc<dyn Model>> {
        let model = self.stop.during(cancel, || self.model.load(&self.placement(plan))).map_err(|error| {
            if cancel.is_asked() { RunError::Cancelled.into() } else { in_its_file(error, &self.paths) }
        })?;
        // What single tensors gave back was read again in part with their neighbours.
        self.give_back();
        Ok(model)
    }

    /// The LoRAs that are in the model.
    pub(crate) fn loras(&self) -> &LoraSet {
        &self.loras
    }

    /// Puts a LoRA into the model, where it does not count yet; `partly` is whether it may fit in part.
    pub(crate) fn lora(&self, path: &Path, dora: Dora, partly: bool) -> Result<Arc<LoadedLora>> {
        self.loras.get((path, dora), || Ok((self.name().to_owned(), self.targets()?)), partly)
    }

    /// What LoRAs may change.
    fn targets(&self) -> Result<Vec<Target>> {
        let roles = self.family.roles();
        let target = |part: &diffusion_engine::family::Part| {
            let network = &roles.iter().find(|role| role.key == part.key() && is_adaptable(role.network.duty))?.network;
            let of = |(root, layout)| Target {
                part: part.key().to_owned(),
                duty: network.duty,
                root,
                spellings: network.spellings_of(&layout),
                layout,
                source: part.source(),
            };
            Some(part.layout(network).map(of).map_err(|error| in_its_file(error, &self.paths)))
        };
        self.parts.iter().filter_map(target).collect()
    }
}

/// Whether LoRAs may change such a part.
pub(crate) fn is_adaptable(duty: Duty) -> bool {
    [Duty::DENOISER, Duty::CLIP, Duty::T5].contains(&duty)
}

/// The parts with whatever LoRAs are put into those that they may change.
fn adaptable(parts: Parts, family: &dyn Family) -> (Parts, LoraSet) {
    let roles = family.roles();
    let mut places = BTreeMap::new();
    let parts = parts.map(|part| {
        if !roles.iter().any(|role| role.key == part.key() && is_adaptable(role.network.duty)) {
            return part;
        }
        let key = part.key().to_owned();
        part.adapted(|source| {
            let adapted = Arc::new(Adapted::over(source));
            places.insert(key, adapted.clone());
            adapted
        })
    });
    let lent = family.takes_embeddings().then(|| parts.lent_embeddings());
    (parts, LoraSet::of(places, lent))
}

/// A family's error, with the file of the part that it is about.
fn in_its_file(error: diffusion_engine::Error, paths: &BTreeMap<String, PathBuf>) -> Error {
    match error {
        diffusion_engine::Error::InPart { key, source } => match paths.get(&key) {
            Some(path) => Error::Load { path: path.clone(), source: Box::new((*source).into()) },
            None => (*source).into(),
        },
        diffusion_engine::Error::NoPart { key } => Error::NoModel { key },
        error => error.into(),
    }
}

/// What the infotext calls the model: its first part's file, or the folder that this is part of.
fn name(path: &Path) -> String {
    let named = match path.is_dir() {
        true => path.parent().and_then(Path::file_name).or(path.file_name()),
        false => path.file_stem(),
    };
    named.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
