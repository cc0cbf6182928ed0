//! `flux.toml`: every key, its meaning and its default. A flag of the same name wins over the file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use core_tensor::Compute;
use diffusion_engine::{Catalog, Size, Txt2Img};
use memory::Bytes;
use samplers::{Options, Value, noise::NoiseSource};
use serde::{Deserialize, Deserializer};

use crate::{Error, Result, limits, outputs::STANDARD_OUTPUT, paths, text_file};

/// A whole config; only `[model]` is required. Paths are relative to the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the model is.
    pub model: Model,
    /// What computes.
    pub device: Device,
    /// How a picture is sampled.
    pub sampling: Sampling,
    /// What it shows.
    pub prompt: Prompt,
    /// What is written.
    pub image: Image,
}

/// `[model]`: either a `folder` in diffusers' layout, or the four files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A folder in diffusers' layout, with `transformer`, `text_encoder`, `text_encoder_2` and `vae` in it.
    pub folder: Option<PathBuf>,
    /// The Flux transformer.
    pub transformer: Option<PathBuf>,
    /// The CLIP-L text encoder.
    pub clip: Option<PathBuf>,
    /// The T5 v1.1 text encoder.
    pub t5: Option<PathBuf>,
    /// The autoencoder.
    pub vae: Option<PathBuf>,
}

/// `[device]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// `cpu`, `cuda:N` or `vulkan:N`.
    pub backend: String,
    /// The number format of products on the CPU: `f32`, `bf16`, or `auto` for `bf16` where the CPU has instructions for it.
    pub compute: String,
    /// How much memory the model may take, such as `16 GiB`; without it, what Linux has free, and no limit elsewhere.
    #[serde(deserialize_with = "size")]
    pub memory: Option<String>,
    /// How many threads compute; 0 for all cores, or for `RAYON_NUM_THREADS`.
    pub threads: usize,
}

/// `[sampling]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Whose habits to follow where engines disagree: `forge`, `a1111`, `comfy`, `diffusers` or `bfl`.
    pub profile: String,
    /// How steps are taken; `forge samplers` lists them. May end in a schedule, as in `DPM++ 2M Karras`.
    pub sampler: String,
    /// How noise levels are spaced; `forge schedules` lists them. Without it, the one that `sampler` ends in, or `simple`.
    pub schedule: Option<String>,
    /// Noise levels in the schedule's place, from the highest; their number then says how many steps there are.
    pub sigmas: Option<Vec<f64>>,
    /// What is set of the sampler and the schedule, by name; `forge samplers` and `forge schedules` say what there is.
    #[serde(deserialize_with = "options")]
    pub options: Options,
    /// Steps from noise to picture, 1 to 1000.
    pub steps: usize,
    /// Distilled guidance, for Flux dev.
    pub guidance: f32,
    /// Classifier-free guidance; above 1 the negative prompt counts and each step costs two model calls.
    pub cfg: f32,
    /// A number or `random`, which -1 stands for too; the seed used is always written into the picture.
    pub seed: Seed,
    /// `cpu` (torch's CPU generator), `nv` (Philox as CUDA makes it), or a safetensors file with a tensor `noise`; without it, the profile's
    /// own.
    pub noise: Option<Noise>,
}

/// `[prompt]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prompt {
    /// What the picture shows.
    pub positive: String,
    /// What it should not show.
    pub negative: String,
    /// T5 tokens that the prompt is padded to; without it, the profile's and model's own.
    pub t5_length: Option<usize>,
}

/// `[image]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// Pixels across, a multiple of 16.
    pub width: usize,
    /// Pixels down, a multiple of 16.
    pub height: usize,
    /// How many pictures, at once.
    pub batch: usize,
    /// The picture's name; `{seed}` and `{index}` are filled in.
    pub output: PathBuf,
}

impl Default for Device {
    fn default() -> Self {
        Self { backend: "cpu".into(), compute: "auto".into(), memory: None, threads: 0 }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            profile: "forge".into(),
            sampler: "euler".into(),
            schedule: None,
            sigmas: None,
            options: Options::default(),
            steps: 20,
            guidance: 3.5,
            cfg: 1.0,
            seed: Seed::Random,
            noise: None,
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self { width: 1024, height: 1024, batch: 1, output: "out/{seed}-{index}.png".into() }
    }
}

/// A seed, or the wish for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub enum Seed {
    /// This one.
    Fixed(u64),
    /// A new one for each run.
    Random,
}

impl TryFrom<toml::Value> for Seed {
    type Error = Error;

    fn try_from(value: toml::Value) -> Result<Self> {
        match &value {
            toml::Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

impl FromStr for Seed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            // -1 is what A1111 and its relatives write for it.
            "random" | "-1" => Ok(Self::Random),
            _ => text.parse().map(Self::Fixed).map_err(|_| Error::Value {
                key: "sampling.seed",
                expected: format!("`random` or 0 to {}", u64::MAX),
                found: format!("`{text}`"),
            }),
        }
    }
}

/// A size as text, or as a whole number of bytes.
fn size<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a size such as \"16 GiB\"")]
    enum Size {
        Bytes(u64),
        Text(String),
    }

    Ok(Some(match Size::deserialize(value)? {
        Size::Bytes(bytes) => bytes.to_string(),
        Size::Text(text) => text,
    }))
}

/// The table `[sampling.options]`, of numbers and names.
fn options<'de, D: Deserializer<'de>>(table: D) -> std::result::Result<Options, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Setting {
        Number(f64),
        Name(String),
    }

    let mut options = Options::default();
    for (name, setting) in BTreeMap::<String, Setting>::deserialize(table)? {
        options.set(
            &name,
            match setting {
                Setting::Number(x) => Value::Number(x),
                Setting::Name(name) => Value::Name(name.to_lowercase()),
            },
        );
    }
    Ok(options)
}

/// Where the starting noise comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Noise {
    /// The seed, through a generator.
    Source(NoiseSource),
    /// The tensor `noise` of a safetensors file.
    File(PathBuf),
}

impl TryFrom<String> for Noise {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Noise {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(source) = NoiseSource::named(&text.to_lowercase()) {
            return Ok(Self::Source(source));
        }
        if text.to_lowercase().ends_with(".safetensors") {
            return Ok(Self::File(text.into()));
        }
        Err(Error::Value {
            key: "sampling.noise",
            expected: "`cpu`, `nv` or a `.safetensors` file".into(),
            found: format!("`{text}`"),
        })
    }
}

impl FromStr for Config {
    type Err = toml::de::Error;

    /// A config whose paths stay as they are written.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

impl Config {
    /// The longest config that is read, in bytes: room for the longest prompt and all else. The TOML reader takes up to 172 bytes for each.
    pub const LONGEST: u64 = 96 << 10;

    /// Reads a config file, a pipe, or standard input for `-`. What was relative to the file is then relative to the current folder, and
    /// what was relative in a pipe is so already.
    ///
    /// # Errors
    /// [`Error::ReadConfig`], [`Error::ParseConfig`] or [`Error::NotAPath`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = text_file::read(path, Self::LONGEST)
            .map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
        let config: Self =
            text.parse().map_err(|source| Error::ParseConfig { path: path.to_owned(), source: Box::new(source) })?;
        // A pipe has a place only in name.
        config.within(path.parent().filter(|_| path.is_file()).unwrap_or(Path::new("")))
    }

    /// The same config with its paths relative to a folder.
    fn within(mut self, folder: &Path) -> Result<Self> {
        let Model { folder: whole, transformer, clip, t5, vae } = &mut self.model;
        for (key, file) in [
            ("model.folder", whole),
            ("model.transformer", transformer),
            ("model.clip", clip),
            ("model.t5", t5),
            ("model.vae", vae),
        ] {
            if let Some(file) = file {
                *file = paths::to_read(key, file, folder)?;
            }
        }
        if let Some(Noise::File(file)) = &mut self.sampling.noise {
            *file = paths::to_read("sampling.noise", file, folder)?;
        }
        if self.image.output != Path::new(STANDARD_OUTPUT) {
            self.image.output = paths::to_write("image.output", &self.image.output, folder)?;
        }
        Ok(self)
    }

    /// The request that this config describes, with the given seed where it asks for a random one.
    ///
    /// # Errors
    /// [`Error::Registry`] for a name that does not exist, [`Error::Value`] for a sampler's name that ends in another schedule
    /// than the one that is given.
    pub fn request(&self, random: impl FnOnce() -> u64) -> Result<Txt2Img> {
        self.request_with(&crate::catalog(), random)
    }

    /// The same, with the samplers and schedules of a registry.
    ///
    /// # Errors
    /// As [`Config::request`].
    pub fn request_with(&self, registry: &Catalog, random: impl FnOnce() -> u64) -> Result<Txt2Img> {
        let Self { sampling, prompt, image, .. } = self;
        let (sampler, named) = registry.sampler_and_schedule(&sampling.sampler)?;
        let given = sampling.schedule.as_deref().map(|name| registry.schedule(name)).transpose()?;
        let schedule = match (given, named) {
            (Some(given), Some(named)) if given != named => {
                return Err(Error::Value {
                    key: "sampling.schedule",
                    expected: format!("`{}`, as the sampler `{}` says", named.id, sampling.sampler),
                    found: format!("`{}`", given.id),
                });
            }
            (given, named) => given.or(named).unwrap_or_else(samplers::simple),
        };
        let profile = registry.profile(&sampling.profile)?;
        Ok(Txt2Img {
            prompt: prompt.positive.clone(),
            negative: prompt.negative.clone(),
            seed: match sampling.seed {
                Seed::Fixed(seed) => seed,
                Seed::Random => random(),
            },
            noise: match sampling.noise {
                Some(Noise::Source(source)) => source,
                Some(Noise::File(_)) | None => profile.noise,
            },
            steps: sampling.steps,
            sampler,
            schedule,
            sigmas: sampling.sigmas.clone(),
            options: sampling.options.clone(),
            profile,
            guidance: sampling.guidance,
            cfg: sampling.cfg,
            size: Size { width: image.width, height: image.height },
            batch: image.batch,
            text_length: prompt.t5_length,
        })
    }

    /// The memory ceiling: the config's, or what Linux has free; elsewhere none.
    ///
    /// # Errors
    /// [`Error::Memory`] for text that is no size.
    pub fn ceiling(&self) -> Result<Bytes> {
        match &self.device.memory {
            Some(text) => Ok(text.parse()?),
            None => Ok(limits::available().unwrap_or(Bytes(u64::MAX))),
        }
    }

    /// The number format that products are computed in on the CPU; other back ends compute in f32.
    ///
    /// # Errors
    /// [`Error::Value`] for a name that does not exist, and for `bf16` where nothing computes in it.
    pub fn compute(&self) -> Result<Compute> {
        let bf16 = kernels::Isa::best().has_bf16() && self.device.backend.starts_with("cpu");
        match self.device.compute.as_str() {
            "auto" | "bf16" if bf16 => Ok(Compute::Bf16),
            "auto" | "f32" => Ok(Compute::F32),
            other => Err(Error::Value {
                key: "device.compute",
                expected: if bf16 { "`auto`, `f32` or `bf16`" } else { "`auto` or `f32`, without bf16 in this device" }
                    .into(),
                found: format!("`{other}`"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Fault;

    fn read(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flux.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn an_empty_config_has_the_defaults_of_the_docs() {
        let config = read("").unwrap();
        let request = config.request(|| 7).unwrap();
        assert_eq!(request, Txt2Img::of("").seed(7));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = read("[model]\nclip = \"a/b.safetensors\"\nvae = \"/abs.safetensors\"").unwrap();
        assert!(config.model.clip.unwrap().ends_with("a/b.safetensors"));
        assert_eq!(config.model.vae.unwrap(), Path::new("/abs.safetensors"));
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused() {
        for text in [
            "[sampling]\nsteps = -1",
            "[sampling]\nseed = \"yes\"",
            "[sampling]\nseed = -3",
            "[image]\nwidth = 1.5",
            "[sampling",
            "\u{0}",
        ] {
            assert!(matches!(read(text), Err(Error::ParseConfig { .. })), "{text}");
        }
        let named = |text: &str| read(text).unwrap().request(|| 0).err().unwrap().fault();
        assert_eq!(named("[sampling]\nsampler = \"eulr\""), Fault::Usage);
        assert_eq!(named("[sampling]\nprofile = \"x\""), Fault::Usage);
    }

    #[test]
    fn the_docs_explain_every_key() {
        let docs = include_str!("../../../docs/config.md");
        for table in ["model", "device", "sampling", "prompt", "image"] {
            assert!(docs.contains(&format!("## `[{table}]`")), "{table}");
            // serde's message for a key that does not exist lists those that do
            let Err(Error::ParseConfig { source, .. }) = read(&format!("[{table}]\nnone = 1")) else {
                panic!("a key that does not exist in [{table}]")
            };
            let keys: Vec<&str> = source.message().split('`').skip(3).step_by(2).collect();
            assert!(keys.len() > 2, "{keys:?}");
            for key in keys {
                assert!(docs.contains(&format!("| `{key}` |")), "{table}.{key}");
            }
        }
    }

    #[test]
    fn products_are_bf16_only_where_the_cpu_has_instructions_for_them() {
        let compute = |text: &str| read(&format!("[device]\n{text}")).unwrap().compute();
        let best = if kernels::Isa::best().has_bf16() { Compute::Bf16 } else { Compute::F32 };
        assert_eq!(compute("compute = \"auto\"").unwrap(), best);
        assert_eq!(compute("compute = \"f32\"").unwrap(), Compute::F32);
        assert_eq!(compute("compute = \"auto\"\nbackend = \"cuda:0\"").unwrap(), Compute::F32);
        assert_eq!(compute("compute = \"bf16\"").is_ok(), best == Compute::Bf16);
        for wrong in ["compute = \"f16\"", "compute = \"\"", "compute = \"bf16\"\nbackend = \"vulkan:0\""] {
            assert_eq!(compute(wrong).err().unwrap().fault(), Fault::Usage, "{wrong}");
        }
    }

    #[test]
    fn the_noise_is_a_source_or_a_file_or_the_profiles_own() {
        let noise = |text: &str| read(&format!("[sampling]\n{text}")).unwrap().request(|| 0).unwrap().noise;
        assert_eq!(noise(""), NoiseSource::Cpu);
        assert_eq!(noise("profile = \"a1111\""), NoiseSource::Nv);
        assert_eq!(noise("profile = \"a1111\"\nnoise = \"cpu\""), NoiseSource::Cpu);
        assert_eq!(read("[sampling]\nnoise = \"nv\"").unwrap().sampling.noise, Some(Noise::Source(NoiseSource::Nv)));
        assert!(matches!(read("[sampling]\nnoise = \"n.safetensors\"").unwrap().sampling.noise, Some(Noise::File(_))));
    }
}
