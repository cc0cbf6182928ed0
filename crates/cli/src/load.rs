//! From a config's paths to a model: which file is which, in which layout, and how much of it is unpacked.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use core_tensor::{Compute, Dtype, Residency, Stored, Survey, WeightSource, Weights, safetensors::Safetensors};
use diffusion_engine::{AutoencoderKl, Clip, LdmNames};
use flux::{BflNames, Dimensions, Flux, Hints, T5, Transformer};
use lora::Dialect;
use memory::{Bytes, Part, Plan};
use quant::{Container, Scheme};
use samplers::Registry;
use serde::de::DeserializeOwned;

use crate::{Config, Error, Result};

/// Loads the Flux of a config.
pub(crate) fn flux(config: &Config, registry: &Registry) -> Result<Flux> {
    let compute = config.compute()?;
    let device = core_tensor::device(&config.device.backend)?;
    let on_cpu = (device == core_tensor::Device::flex()).then_some(compute);
    let request = config.request_with(registry, || 0)?;
    let paths = Paths::of(config)?;
    let transformer = File::of(&paths.transformer, Role::Transformer)?;
    let clip = File::of(&paths.clip, Role::Clip)?;
    let t5 = File::of(&paths.t5, Role::T5)?;
    let vae = File::of(&paths.vae, Role::Autoencoder)?;

    let hints: Hints = config_json(&transformer.path, "FluxTransformer")?;
    let vae_hints = config_json(&vae.path, "AutoencoderKL")?;
    let decoder = vae.look(|w| AutoencoderKl::load(w, &vae_hints))?;
    request.size.checked(decoder.factor() * flux::PATCH)?;
    let dimensions = transformer.look(|w| Dimensions::of(&w.before(Transformer::MARK), &hints))?;
    let work = Bytes(Flux::working_bytes(&dimensions, decoder.width(), &request));
    // Encoders run once for each prompt: they are not worth unpacking.
    let stays_mapped = |part: Part| Part { unpacked: part.mapped, ..part };
    let is_unpacked = |part: Part| Part { mapped: part.unpacked, ..part };
    let parts = vec![
        transformer.part("transformer", on_cpu),
        stays_mapped(t5.part("t5", on_cpu)),
        stays_mapped(clip.part("clip", on_cpu)),
        is_unpacked(vae.part("vae", on_cpu)),
        Part { name: "work", unpacked: work, mapped: work },
    ];
    let unpacks = Plan::under(config.ceiling()?, parts)?.unpacks("transformer");
    let residency = if unpacks { Residency::Unpacked } else { Residency::Mapped };

    let clip_hints = config_json(&clip.path, "CLIPText")?;
    let transformer = transformer.load(&device, residency, compute, |w| Transformer::load(w, &hints))?;
    let clip = clip.load(&device, Residency::Mapped, compute, |w| Clip::load(w, &clip_hints))?;
    let t5 = t5.load(&device, Residency::Mapped, compute, T5::load)?;
    let vae = vae.load(&device, Residency::Unpacked, compute, |w| AutoencoderKl::load(w, &vae_hints))?;
    Ok(Flux::new(paths.name(), transformer, clip, t5, vae, &device)?)
}

/// A model file that holds what the config says it does.
struct File {
    path: PathBuf,
    source: Box<dyn WeightSource>,
}

impl File {
    /// Opens a file, and tells what it is where it is not what belongs here.
    fn of(path: &Path, expected: Role) -> Result<Self> {
        let source = open(path)?;
        let names = source.names();
        let formats: Vec<_> = names.iter().filter_map(|n| Some((n.as_str(), source.form(n)?.0))).collect();
        let found = match Scheme::of(formats.iter().copied()) {
            Some(scheme) => format!("quantised ({}), which is not supported yet", scheme.name()),
            None if names.iter().any(|n| expected.marks(n)) => return Ok(Self { path: path.to_owned(), source }),
            None => Role::of(&names).name().to_owned(),
        };
        let source = Box::new(Error::WrongFile { expected: expected.name(), found });
        Err(Error::Load { path: path.to_owned(), source })
    }

    fn load<T>(
        &self,
        device: &core_tensor::Device,
        residency: Residency,
        compute: Compute,
        load: impl FnOnce(&Weights) -> std::result::Result<T, diffusion_engine::Error>,
    ) -> Result<T> {
        self.named(load(&Weights::of(&*self.source, device, residency).computed_in(compute)))
    }

    /// Loads from the header alone; what is missing is told when the file is loaded.
    fn look<T>(&self, load: impl FnOnce(&Weights) -> std::result::Result<T, diffusion_engine::Error>) -> Result<T> {
        self.named(load(&Weights::survey(&*self.source, &Survey::default())))
    }

    fn named<T>(&self, loaded: std::result::Result<T, diffusion_engine::Error>) -> Result<T> {
        loaded.map_err(|e| Error::Load { path: self.path.clone(), source: Box::new(e.into()) })
    }

    /// The file's size in memory, and with its matrices left where they are; embeddings always are. `on_cpu` is what the CPU
    /// computes in, where that is the device: in bf16 matrices and convolutions take two bytes a number, in f32 matrices of half
    /// precision do; everything else becomes f32.
    fn part(&self, name: &'static str, on_cpu: Option<Compute>) -> Part {
        let mut unpacked = 0u64;
        let mut mapped = 0u64;
        for tensor in self.source.names() {
            let Some((dtype, shape)) = self.source.form(&tensor) else { continue };
            let each = match (on_cpu, dtype, shape.len()) {
                (Some(Compute::Bf16), _, 2 | 4) | (Some(Compute::F32), Dtype::F16 | Dtype::BF16, 2) => 2,
                _ => 4,
            };
            let bytes = shape.iter().fold(each, |n: u64, &d| n.saturating_mul(d as u64));
            let table = tensor.ends_with("token_embedding.weight") || tensor.ends_with("shared.weight");
            unpacked = unpacked.saturating_add(if table { 0 } else { bytes });
            mapped = mapped.saturating_add(if shape.len() == 2 { 0 } else { bytes });
        }
        Part { name, unpacked: Bytes(unpacked), mapped: Bytes(mapped) }
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

/// Opens a model file, or every shard in a folder of diffusers' layout, under the original names.
pub(crate) fn open(path: &Path) -> Result<Box<dyn WeightSource>> {
    let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let source = Shards::open(path).map_err(load)?;
    if BflNames::apply_to(&source) {
        return Ok(Box::new(BflNames::over(source)));
    }
    if LdmNames::apply_to(&source) {
        return Ok(Box::new(LdmNames::over(source)));
    }
    Ok(Box::new(source))
}

/// One safetensors file, or several that make one model.
struct Shards {
    path: PathBuf,
    shards: Vec<Safetensors>,
    /// Which shard holds a tensor.
    index: BTreeMap<String, usize>,
}

impl Shards {
    fn open(path: &Path) -> Result<Self> {
        let shards = files(path)?.iter().map(|file| open_file(file)).collect::<Result<Vec<_>>>()?;
        let mut index = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.names() {
                let found = format!("a folder with `{name}` in two files");
                if index.insert(name, i).is_some() {
                    return Err(Error::WrongFile { expected: "every tensor in one", found });
                }
            }
        }
        Ok(Self { path: path.to_owned(), shards, index })
    }
}

impl WeightSource for Shards {
    fn label(&self) -> String {
        format!("`{}`", self.path.display())
    }

    fn names(&self) -> Vec<String> {
        self.index.keys().cloned().collect()
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        self.shards[*self.index.get(name)?].form(name)
    }

    fn read(&self, name: &str) -> Option<Stored> {
        self.shards[*self.index.get(name)?].read(name)
    }
}

/// A file itself, or the safetensors files of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.extension().is_some_and(|e| e == "safetensors") {
            found.push(file);
        }
    }
    // Folders from the hub hold several precisions of one model; the plain one is the model.
    if found.iter().any(|f| !variant(f)) {
        found.retain(|f| !variant(f));
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::WrongFile { expected: "a safetensors file", found: "a folder without one".into() });
    }
    Ok(found)
}

fn variant(file: &Path) -> bool {
    let name = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    name.contains(".fp16.") || name.contains(".bf16.") || name.contains(".fp16-") || name.contains(".bf16-")
}

/// Opens a safetensors file; anything else is named for what it is.
pub(crate) fn open_file(path: &Path) -> Result<Safetensors> {
    let found = match container(path) {
        Some(Container::Gguf) => "a GGUF file, which is not supported yet",
        Some(Container::Zip | Container::Pickle) => "a PyTorch pickle, which could run code and is never opened",
        Some(Container::Safetensors) | None => return Ok(Safetensors::open(path)?),
    };
    Err(Error::WrongFile { expected: "a safetensors file", found: found.into() })
}

/// What a file is by its first bytes; `None` where it can't be read or told, so that opening it says why.
fn container(path: &Path) -> Option<Container> {
    if !path.is_file() {
        return None; // opening a pipe would wait for a writer
    }
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(9).read_to_end(&mut head).ok()?;
    Container::of(&head)
}

/// The longest `config.json` that is read; those of diffusers are a kilobyte.
const CONFIG_LIMIT: u64 = 1 << 20;

/// What a `config.json` in a model's folder, or beside its file, says of a model of this kind; nothing where there is none, or
/// where it is another model's.
pub(crate) fn config_json<T: DeserializeOwned + Default>(path: &Path, kind: &str) -> Result<T> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let file = folder.join("config.json");
    if !file.exists() {
        return Ok(T::default());
    }
    if !file.is_file() {
        let source = Box::new(Error::WrongFile { expected: "a file", found: "something else".into() });
        return Err(Error::Load { path: file, source });
    }
    let read = |source| Error::Read { path: file.clone(), source };
    let mut text = Vec::new();
    std::fs::File::open(&file).map_err(read)?.take(CONFIG_LIMIT).read_to_end(&mut text).map_err(read)?;
    let config = |source| Error::ModelConfig { path: file.clone(), source };
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(config)?;
    // diffusers writes `_class_name`, transformers `architectures`.
    let class = json.get("_class_name").or_else(|| json.get("architectures")?.get(0)).and_then(|name| name.as_str());
    match class {
        Some(class) if !class.starts_with(kind) => Ok(T::default()),
        _ => serde_json::from_value(json).map_err(config),
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Transformer,
    Clip,
    T5,
    Autoencoder,
    Lora,
    Unet,
    Sd3Transformer,
    Unknown,
}

impl Role {
    /// From the most telling to the least: an all-in-one file counts as its transformer.
    const ALL: [Self; 7] =
        [Self::Lora, Self::Transformer, Self::Unet, Self::Sd3Transformer, Self::T5, Self::Clip, Self::Autoencoder];

    /// Told by the tensors' names.
    pub(crate) fn of(names: &[String]) -> Self {
        Self::ALL.into_iter().find(|role| names.iter().any(|name| role.marks(name))).unwrap_or(Self::Unknown)
    }

    /// Whether a tensor's name gives a file this role.
    fn marks(self, name: &str) -> bool {
        match self {
            Self::Transformer => name.ends_with(Transformer::MARK),
            Self::Clip => name.ends_with(Clip::MARK),
            Self::T5 => name.ends_with(T5::MARK),
            Self::Autoencoder => name.ends_with(AutoencoderKl::MARK),
            Self::Lora => Dialect::of([name]).is_some(),
            Self::Unet => {
                name.ends_with("input_blocks.0.0.weight")
                    || name.ends_with("down_blocks.0.resnets.0.time_emb_proj.weight")
            }
            Self::Sd3Transformer => {
                name.ends_with("joint_blocks.0.x_block.attn.qkv.weight")
                    || name.ends_with("transformer_blocks.0.attn.add_q_proj.weight")
            }
            Self::Unknown => false,
        }
    }

    /// As it is called in a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transformer => "a Flux transformer",
            Self::Clip => "a CLIP text encoder",
            Self::T5 => "a T5 encoder",
            Self::Autoencoder => "an autoencoder",
            Self::Lora => "a LoRA",
            Self::Unet => "a Stable Diffusion UNet",
            Self::Sd3Transformer => "a Stable Diffusion 3 transformer",
            Self::Unknown => "not a model that is known here",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms of tensors without values.
    struct Forms(Dtype, [(&'static str, Vec<usize>); 4]);

    impl WeightSource for Forms {
        fn label(&self) -> String {
            "forms".into()
        }
        fn names(&self) -> Vec<String> {
            self.1.iter().map(|(name, _)| name.to_string()).collect()
        }
        fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
            self.1.iter().find(|(n, _)| *n == name).map(|(_, shape)| (self.0, shape.clone()))
        }
        fn read(&self, _: &str) -> Option<Stored> {
            None
        }
    }

    #[test]
    fn a_part_counts_what_its_numbers_become_in_memory() {
        for (dtype, on_cpu, matrix, filter) in [
            (Dtype::F32, Some(Compute::F32), 4, 4),
            (Dtype::F16, Some(Compute::F32), 2, 4),
            (Dtype::BF16, Some(Compute::F32), 2, 4),
            (Dtype::F32, Some(Compute::Bf16), 2, 2),
            (Dtype::F16, Some(Compute::Bf16), 2, 2),
            (Dtype::F16, None, 4, 4),
        ] {
            // given a table, a matrix, a convolution and a vector
            let tensors = [
                (Clip::MARK, vec![50, 8]),
                ("matrix", vec![10, 8]),
                ("filter", vec![2, 3, 3, 3]),
                ("vector", vec![10]),
            ];
            let file = File { path: PathBuf::new(), source: Box::new(Forms(dtype, tensors)) };
            // when they are counted, then the table takes nothing and the vector four bytes a number
            let part = file.part("clip", on_cpu);
            let mapped = 54 * filter + 40;
            assert_eq!(
                (part.unpacked, part.mapped),
                (Bytes(80 * matrix + mapped), Bytes(mapped)),
                "{dtype:?} {on_cpu:?}"
            );
        }
    }
}
