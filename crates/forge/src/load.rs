//! From a config's paths to a model: which file is which, whether they fit each other, and how much of it is unpacked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use core_tensor::{Compute, Residency, Weights};
use diffusion_engine::{AutoencoderKl, Clip, ClipConfig, Job, T5, T5Dimensions, VaeConfig};
use flux::{Dimensions, Flux, LATENT_SCALING, Transformer, TransformerConfig};
use memory::{Bytes, Part, Plan};
use serde::de::DeserializeOwned;

use crate::{
    Config, Error, Finding, Note, Result,
    model_files::{
        Beside, ModelConfig, ModelFile, Network, OtherConfig, Role, Surveyed, abridged, networks, read_object, under,
    },
};

/// The files of a model, looked at by their headers: nothing is wrong with them, and nothing is loaded yet.
pub(crate) struct Opened {
    files: Files,
    transformer: (Chosen, TransformerConfig),
    clip: (Chosen, ClipConfig),
    t5: Chosen,
    vae: (Chosen, VaeConfig),
    name: String,
    device: core_tensor::Device,
    compute: Compute,
    ceiling: Bytes,
    dimensions: Dimensions,
    encoder: T5Dimensions,
    /// Channels of the decoder's finest level.
    decoder: usize,
    /// What width and height must be multiples of.
    size_multiple: usize,
    /// What each part takes, unpacked and with its matrices left in the file.
    bytes: PartBytes,
}

/// Bytes of the four parts, each unpacked and mapped.
struct PartBytes {
    transformer: [Bytes; 2],
    clip: [Bytes; 2],
    t5: [Bytes; 2],
    vae: [Bytes; 2],
}

impl Opened {
    /// Looks at the files of a config.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let compute = config.compute()?;
        let device = core_tensor::device(&config.device.backend.to_string())?;
        let on_cpu = (device == core_tensor::Device::flex()).then_some(compute);
        let paths = Paths::of(config)?;
        if let (None, Some(folder)) = (&config.model.transformer, &config.model.folder) {
            is_flux(folder)?;
        }
        let mut files = Files::default();
        // All four are told for what they are before any is looked into.
        let [transformer, clip, t5, vae] = files.choose([
            (&paths.transformer, Role::Transformer),
            (&paths.clip, Role::Clip),
            (&paths.t5, Role::T5),
            (&paths.vae, Role::Autoencoder),
        ])?;
        let transformer_config = files.config_of(&transformer)?;
        let (clip_config, vae_config) = (files.config_of(&clip)?, files.config_of(&vae)?);

        // By the headers alone: what is missing, what doesn't fit, and what it takes.
        let seen_vae = files.look(&vae, on_cpu, |w| networks::autoencoder(w, &vae_config))?;
        let seen_transformer = files.look(&transformer, on_cpu, |w| networks::transformer(w, &transformer_config))?;
        let seen_clip = files.look(&clip, on_cpu, |w| networks::clip(w, &clip_config))?;
        let seen_t5 = files.look(&t5, on_cpu, networks::t5)?;
        let (dimensions, encoder, decoder) = (seen_transformer.network, seen_t5.network, &seen_vae.network);
        Flux::fit(&dimensions, &seen_clip.network, &encoder, decoder)?;
        Ok(Self {
            bytes: PartBytes {
                transformer: seen_transformer.bytes,
                clip: seen_clip.bytes,
                t5: seen_t5.bytes,
                vae: seen_vae.bytes,
            },
            transformer: (transformer, transformer_config),
            clip: (clip, clip_config),
            t5,
            vae: (vae, vae_config),
            name: paths.name(),
            ceiling: config.ceiling(),
            dimensions,
            encoder,
            decoder: decoder.width(),
            size_multiple: decoder.factor() * flux::PATCH,
            files,
            device,
            compute,
        })
    }

    /// What the infotext calls the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is odd about the files.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.files.notes()
    }

    /// Finds out what the model can't do of a job, before anything is loaded for it.
    pub(crate) fn fits(&self, job: &Job) -> Result<()> {
        job.passes().iter().try_for_each(|pass| Ok(pass.size.checked(self.size_multiple).map(drop)?))
    }

    /// What is unpacked for a job.
    pub(crate) fn plan(&self, job: &Job) -> Result<Plan> {
        let work = Bytes(Flux::working_bytes(&self.dimensions, &self.encoder, self.decoder, job));
        // Encoders run once for each prompt: they are not worth unpacking.
        let stays_mapped = |[_, mapped]: [Bytes; 2]| [mapped; 2];
        let is_unpacked = |[unpacked, _]: [Bytes; 2]| [unpacked; 2];
        let part = |name, [unpacked, mapped]: [Bytes; 2]| Part { name, unpacked, mapped };
        let parts = vec![
            part(TRANSFORMER, self.bytes.transformer),
            part("t5", stays_mapped(self.bytes.t5)),
            part("clip", stays_mapped(self.bytes.clip)),
            part("vae", is_unpacked(self.bytes.vae)),
            part("work", [work; 2]),
        ];
        Ok(Plan::under(self.ceiling, parts)?)
    }

    /// Loads the model as a plan says.
    pub(crate) fn load(&self, plan: &Plan) -> Result<Flux> {
        let Self { files, device, compute, .. } = self;
        let residency = residency(plan);
        // What the allocator keeps for later is memory too.
        kernels::HugePages::limit(usize::try_from(self.ceiling.0 - plan.total().0).unwrap_or(usize::MAX));

        let (chosen, config) = &self.transformer;
        let transformer = files.load(chosen, device, residency, *compute, |w| Transformer::load(w, config))?;
        let (chosen, config) = &self.clip;
        let clip = files.load(chosen, device, Residency::Mapped, *compute, |w| Clip::load(w, config))?;
        let t5 = files.load(&self.t5, device, Residency::Mapped, *compute, T5::load)?;
        let (chosen, config) = &self.vae;
        let vae = files
            .load(chosen, device, Residency::Unpacked, *compute, |w| AutoencoderKl::load(w, config, LATENT_SCALING))?;
        // What single tensors gave back was read again in part with their neighbours.
        files.used.iter().for_each(|used| used.file.give_back());
        Ok(Flux::new(self.name.clone(), transformer, clip, t5, vae, device)?)
    }
}

const TRANSFORMER: &str = "transformer";

/// Whether the transformer is unpacked.
pub(crate) fn residency(plan: &Plan) -> Residency {
    if plan.unpacks(TRANSFORMER) { Residency::Unpacked } else { Residency::Mapped }
}

/// The pipelines of diffusers whose parts are what is computed here.
const PIPELINES: &[&str] = &[
    "FluxPipeline",
    "FluxImg2ImgPipeline",
    "FluxInpaintPipeline",
    "FluxKontextPipeline",
    "FluxKontextInpaintPipeline",
];

/// Whether a whole model's folder is a Flux's, as far as its `model_index.json` says.
fn is_flux(folder: &Path) -> Result<()> {
    let path = folder.join("model_index.json");
    if !path.exists() {
        return Ok(());
    }
    let json = read_object(&path)?;
    let class = match json.get("_class_name") {
        None => return Ok(()),
        Some(serde_json::Value::String(class)) if PIPELINES.contains(&&**class) => return Ok(()),
        Some(serde_json::Value::String(class)) => abridged(class),
        Some(other) => abridged(&other.to_string()),
    };
    Err(Error::OtherClass { path, class, expected: format!("`{}`", PIPELINES[0]) })
}

/// The files of a model; one that holds several of its parts is opened once.
#[derive(Default)]
struct Files {
    used: Vec<Used>,
    /// Configs of other models beside the files, which a file in the same folder may still claim.
    others: Vec<(PathBuf, OtherConfig)>,
    claimed: BTreeSet<PathBuf>,
}

/// A file, and what of it is used.
struct Used {
    file: ModelFile,
    parts: Vec<usize>,
    read: BTreeSet<String>,
}

/// A part of a file, for its role.
struct Chosen {
    file: usize,
    part: usize,
    role: Role,
    config: Option<ModelConfig>,
}

/// What a part comes to.
struct Seen<D> {
    /// Its dimensions.
    network: D,
    /// What it takes unpacked, and with its matrices left in the file.
    bytes: [Bytes; 2],
}

impl Files {
    fn choose<const N: usize>(&mut self, wanted: [(&PathBuf, Role); N]) -> Result<[Chosen; N]> {
        let mut chosen = Vec::new();
        for (path, role) in wanted {
            let open = self.used.iter().position(|used| used.file.path == *path);
            let file = match open {
                Some(file) => file,
                None => {
                    self.used.push(Used { file: ModelFile::open(path)?, parts: vec![], read: BTreeSet::new() });
                    self.used.len() - 1
                }
            };
            let part = self.used[file].file.part_for(role)?;
            let Beside { config, other } = ModelConfig::beside(path, role)?;
            self.claimed.extend(config.as_ref().map(|config| config.path().to_owned()));
            self.others.extend(other.map(|other| (path.clone(), other)));
            chosen.push(Chosen { file, part, role, config });
        }
        Ok(chosen.try_into().unwrap_or_else(|_| unreachable!("one for each that was wanted")))
    }

    fn config_of<T: DeserializeOwned + Default>(&self, chosen: &Chosen) -> Result<T> {
        chosen.config.as_ref().map_or_else(|| Ok(T::default()), ModelConfig::read)
    }

    /// Looks at a part by its header; the first fault ends it.
    fn look<D>(
        &mut self,
        chosen: &Chosen,
        on_cpu: Option<Compute>,
        network: impl FnOnce(&Weights) -> Network<D>,
    ) -> Result<Seen<D>> {
        let Used { file, parts, read } = &mut self.used[chosen.file];
        let rejected = |source: Error| Error::Load { path: file.path.clone(), source: Box::new(source) };
        let surveyed = file.survey(chosen.part, chosen.role, chosen.config.as_ref(), on_cpu, network);
        let Surveyed { network, agrees, faults, bytes, read: found } = surveyed;
        agrees.map_err(rejected)?;
        if let Some(fault) = faults.into_iter().next() {
            return Err(rejected(diffusion_engine::Error::from(fault).into()));
        }
        let network = network.map_err(|e| rejected(e.into()))?;
        parts.push(chosen.part);
        read.extend(found);
        Ok(Seen { network, bytes: bytes.map(Bytes) })
    }

    fn load<T>(
        &self,
        chosen: &Chosen,
        device: &core_tensor::Device,
        residency: Residency,
        compute: Compute,
        load: impl FnOnce(&Weights) -> std::result::Result<T, diffusion_engine::Error>,
    ) -> Result<T> {
        let file = &self.used[chosen.file].file;
        let source = file.source(chosen.part);
        let w = Weights::of(&*source, device, residency).computed_in(compute);
        load(&under(&w, &file.parts[chosen.part]))
            .map_err(|e| Error::Load { path: file.path.clone(), source: Box::new(e.into()) })
    }

    fn notes(&self) -> Vec<Note> {
        let of_file = |Used { file, parts, read }: &Used| {
            let findings = file.findings(parts, read);
            let path = file.path.clone();
            findings.into_iter().map(move |finding| Note { path: path.clone(), finding })
        };
        let mut notes: Vec<Note> = self.used.iter().flat_map(of_file).collect();
        let mut told = BTreeSet::new();
        for (path, OtherConfig { path: config, class }) in &self.others {
            if !self.claimed.contains(config) && told.insert(config) {
                let finding = Finding::OtherConfig { config: config.clone(), class: class.clone() };
                notes.push(Note { path: path.clone(), finding });
            }
        }
        notes
    }
}

/// Where the four parts of a model are.
struct Paths {
    transformer: PathBuf,
    clip: PathBuf,
    t5: PathBuf,
    vae: PathBuf,
}

impl Paths {
    /// The config's files; for one that is not given, the folder's.
    fn of(config: &Config) -> Result<Self> {
        let model = &config.model;
        let find = |key, given: &Option<PathBuf>, part: &str| match (given, &model.folder) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(folder)) => Ok(folder.join(part)),
            (None, None) => Err(Error::NoModel { key }),
        };
        Ok(Self {
            transformer: find("transformer", &model.transformer, "transformer")?,
            clip: find("clip", &model.clip, "text_encoder")?,
            t5: find("t5", &model.t5, "text_encoder_2")?,
            vae: find("vae", &model.vae, "vae")?,
        })
    }

    /// What the infotext calls the model: the transformer's file, or the folder it is part of.
    fn name(&self) -> String {
        let named = match self.transformer.is_dir() {
            true => self.transformer.parent().and_then(Path::file_name).or(self.transformer.file_name()),
            false => self.transformer.file_stem(),
        };
        named.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}
