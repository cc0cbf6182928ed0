//! From a config's paths to a model: which file is which, in which layout, and how much of it is unpacked.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use core_tensor::{Dtype, Residency, Stored, WeightSource, Weights, safetensors::Safetensors};
use diffusion_engine::{AutoencoderKl, Clip, LdmNames};
use flux::{BflNames, Flux, T5, Transformer};
use lora::Dialect;
use memory::{Bytes, Part, Plan};
use quant::{Container, Scheme};
use serde::de::DeserializeOwned;

use crate::{Config, Error, Result};

/// Loads the Flux of a config.
pub(crate) fn flux(config: &Config) -> Result<Flux> {
    config.check_compute()?;
    let device = core_tensor::device(&config.device.backend)?;
    let paths = Paths::of(config)?;
    let ceiling = config.ceiling()?;
    let clip = open(&paths.clip)?;
    let t5 = open(&paths.t5)?;
    let vae = open(&paths.vae)?;
    let transformer = open(&paths.transformer)?;

    let part = |name, source: &dyn WeightSource| {
        let (unpacked, mapped) = sizes(source);
        Part { name, unpacked, mapped }
    };
    let parts = vec![part("transformer", &*transformer), part("t5", &*t5), part("clip", &*clip), part("vae", &*vae)];
    let plan = Plan::under(ceiling, parts)?;
    let residency = |name| {
        if plan.unpacks(name) { Residency::Unpacked } else { Residency::Mapped }
    };
    fn weights<'a>(source: &'a dyn WeightSource, device: &core_tensor::Device, residency: Residency) -> Weights<'a> {
        Weights::of(source, device, residency)
    }

    let name = paths.name();
    let hints = config_json(&paths.transformer, "FluxTransformer")?;
    let transformer =
        expect(&paths.transformer, "a Flux transformer", &*transformer, Transformer::MARK).and_then(|()| {
            rejected(
                &paths.transformer,
                Transformer::load(&weights(&*transformer, &device, residency("transformer")), &hints),
            )
        })?;
    let hints = config_json(&paths.clip, "CLIPText")?;
    let clip = expect(&paths.clip, "a CLIP text encoder", &*clip, Clip::MARK)
        .and_then(|()| rejected(&paths.clip, Clip::load(&weights(&*clip, &device, residency("clip")), &hints)))?;
    let t5 = expect(&paths.t5, "a T5 encoder", &*t5, T5::MARK)
        .and_then(|()| rejected(&paths.t5, T5::load(&weights(&*t5, &device, residency("t5")))))?;
    let hints = config_json(&paths.vae, "AutoencoderKL")?;
    let vae = expect(&paths.vae, "an autoencoder", &*vae, AutoencoderKl::MARK).and_then(|()| {
        rejected(&paths.vae, AutoencoderKl::load(&weights(&*vae, &device, Residency::Unpacked), &hints))
    })?;
    let path = paths.transformer.clone();
    Flux::new(name, transformer, clip, t5, vae, &device).map_err(|e| Error::Load { path, source: Box::new(e.into()) })
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
    File::open(path).ok()?.take(9).read_to_end(&mut head).ok()?;
    Container::of(&head)
}

/// What a `config.json` in a model's folder, or beside its file, says of a model of this kind; nothing where there is none, or
/// where it is another model's.
pub(crate) fn config_json<T: DeserializeOwned + Default>(path: &Path, kind: &str) -> Result<T> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let file = folder.join("config.json");
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(Error::ModelConfig { path: file, source: serde::de::Error::custom(error) }),
    };
    let config = |source| Error::ModelConfig { path: file.clone(), source };
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(config)?;
    // diffusers writes `_class_name`, transformers `architectures`.
    let class = json.get("_class_name").or_else(|| json.get("architectures")?.get(0)).and_then(|name| name.as_str());
    match class {
        Some(class) if !class.starts_with(kind) => Ok(T::default()),
        _ => serde_json::from_value(json).map_err(config),
    }
}

/// Fails where a file is not what the config says, and tells what it is instead.
fn expect(path: &Path, expected: &'static str, source: &dyn WeightSource, mark: &str) -> Result<()> {
    let names = source.names();
    let formats: Vec<_> = names.iter().filter_map(|n| Some((n.as_str(), source.form(n)?.0))).collect();
    let found = if let Some(scheme) = Scheme::of(formats.iter().copied()) {
        format!("quantised ({}), which is not supported yet", scheme.name())
    } else if names.iter().any(|n| n.ends_with(mark)) {
        return Ok(());
    } else {
        role(&names).to_owned()
    };
    Err(Error::Load { path: path.to_owned(), source: Box::new(Error::WrongFile { expected, found }) })
}

/// What a file holds, by its tensors' names.
pub(crate) fn role(names: &[String]) -> &'static str {
    let has = |mark: &str| names.iter().any(|n| n.ends_with(mark));
    if Dialect::of(names.iter().map(String::as_str)).is_some() {
        "a LoRA"
    } else if has(Transformer::MARK) {
        "a Flux transformer"
    } else if has("input_blocks.0.0.weight") || has("down_blocks.0.resnets.0.time_emb_proj.weight") {
        "a Stable Diffusion UNet"
    } else if has("joint_blocks.0.x_block.attn.qkv.weight") || has("transformer_blocks.0.attn.add_q_proj.weight") {
        "a Stable Diffusion 3 transformer"
    } else if has(T5::MARK) {
        "a T5 encoder"
    } else if has(Clip::MARK) {
        "a CLIP text encoder"
    } else if has(AutoencoderKl::MARK) {
        "an autoencoder"
    } else {
        "not a model that is known here"
    }
}

fn rejected<T>(path: &Path, loaded: std::result::Result<T, diffusion_engine::Error>) -> Result<T> {
    loaded.map_err(|e| Error::Load { path: path.to_owned(), source: Box::new(e.into()) })
}

/// A model's size unpacked to f32, and with its matrices left in the file.
fn sizes(source: &dyn WeightSource) -> (Bytes, Bytes) {
    let mut unpacked = 0u64;
    let mut mapped = 0u64;
    for name in source.names() {
        let Some((_, shape)) = source.form(&name) else { continue };
        let bytes = shape.iter().fold(4u64, |n, &d| n.saturating_mul(d as u64));
        let embedding = name.ends_with("embedding.weight") || name.ends_with("shared.weight");
        unpacked = unpacked.saturating_add(if embedding { 0 } else { bytes });
        mapped = mapped.saturating_add(if shape.len() == 2 { 0 } else { bytes });
    }
    (Bytes(unpacked), Bytes(mapped))
}
