//! `flux.toml`: what it says, as types. The keys are in [`tables`], and a flag of the same name wins over the file.

mod choices;
mod hires;
mod list;
mod lora;
mod read;
mod setting;
mod start;
mod tables;
mod values;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use core_tensor::Compute;
use diffusion_engine::{Catalog, Job, Key, Kind, Pass, Size, Txt2Img, Value, Variation};
use memory::Bytes;

use self::{hires::named, list::entry};
use crate::{
    Error, Result,
    families::catalog,
    limits::{self, Ceiling, CeilingOf},
    noise_file::noise_file,
    paths::{self, STANDARD_OUTPUT},
    process, text_file,
};

pub use choices::{InpaintArea, SoftInpainting};
pub use list::{find, keys, tables};
pub use lora::Lora;
pub use tables::{
    Config, Control, Device, Hires, Image, Img2img, Inpaint, Model, Preview, Prompt, Refiner, Sampling, Table,
};
pub use values::{Adapter, Backend, ComputeChoice, HiresUpscaler, Noise, Seed};

impl FromStr for Config {
    type Err = toml::de::Error;

    /// A config whose paths stay as they are written.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        read::read(text, &[])
    }
}

impl Config {
    /// The longest config that is read, in bytes: room for the longest prompt and all else. The TOML reader takes up to 172 bytes
    /// for each.
    pub const LONGEST: u64 = 96 << 10;

    /// Reads a config file, a pipe, or standard input for `-`. What was relative to the file is then relative to the current folder,
    /// and what was relative in a pipe is so already.
    ///
    /// # Errors
    /// [`Error::ReadConfig`], [`Error::ParseConfig`] or [`Error::NotAPath`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_without(path, &[])
    }

    /// The same, without looking at the values of some keys: whatever the file says of them, the caller will set them.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_without(path: &Path, keys: &[&Key]) -> Result<Self> {
        let text = text_file::read(path, Self::LONGEST)
            .map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
        let config = read::read(&text, keys)
            .map_err(|source| Error::ParseConfig { path: path.to_owned(), source: Box::new(source) })?;
        // A pipe has a place only in name.
        config.within(path.parent().filter(|_| path.is_file()).unwrap_or(Path::new("")))
    }

    /// The same config with its paths relative to a folder.
    fn within(mut self, folder: &Path) -> Result<Self> {
        for key in keys() {
            self.resolve(key, &key.path(), folder)?;
        }
        let loras = self.loras.into_iter().map(|lora| lora.within("lora.path", folder));
        self.loras = loras.collect::<Result<_>>()?;
        Ok(self)
    }

    /// Makes the path that a key is relative to a folder; an error calls it `called`.
    fn resolve(&mut self, key: &Key, called: &str, folder: &Path) -> Result<()> {
        let Some(path) = entry(key).and_then(|entry| (entry.path)(self)) else { return Ok(()) };
        *path = match key.kind {
            Kind::Output if path == Path::new(STANDARD_OUTPUT) => return Ok(()),
            Kind::Output => paths::to_write(called, path, folder)?,
            _ => paths::to_read(called, path, folder)?,
        };
        Ok(())
    }

    /// The quality of JPEGs, as their format takes it.
    pub fn quality(&self) -> u8 {
        u8::try_from(self.image.quality).unwrap_or(u8::MAX)
    }

    /// What a key is set to, or is where nothing sets it; `None` where that depends on the rest.
    pub fn get(&self, key: &Key) -> Option<Value> {
        match (entry(key), self.knobs.value(key.name)) {
            (Some(entry), _) => (entry.get)(self),
            (None, Some(option)) => Some(key.value(option)),
            (None, None) => key.initial(),
        }
    }

    /// The files and folders that a run of this config reads, by their keys.
    pub(crate) fn files(&self) -> Vec<(&'static Key, PathBuf)> {
        let mut config = self.clone();
        let read = keys().filter(|key| !matches!(key.kind, Kind::Output));
        read.filter_map(|key| Some((key, (entry(key)?.path)(&mut config)?.clone()))).collect()
    }

    /// Sets a key. A path is relative to the current folder; what is wrong with it is told of `called`, such as a flag.
    ///
    /// # Errors
    /// [`Error::Value`] for a value that is not of the key's kind or range, [`Error::NotAPath`] for what is no path.
    pub fn set(&mut self, key: &Key, value: &Value, called: &str) -> Result<()> {
        let wrong = |expected| Error::Value { key: key.path(), expected, found: value.shown() };
        self.put(key, value).map_err(wrong)?;
        self.resolve(key, called, Path::new(""))
    }

    /// Sets a key to a value as it is written, or says what was expected.
    fn put(&mut self, key: &Key, value: &Value) -> std::result::Result<(), String> {
        key.kind.check(value)?;
        let Some(entry) = entry(key) else {
            self.knobs.set(key.name, value.option().ok_or("a number or a name")?);
            return Ok(());
        };
        (entry.set)(self, value)
    }

    /// The job that this config describes, from its file of noise where it names one; `random` is the seed where it asks for a new one.
    ///
    /// # Errors
    /// As [`Config::request_with`] and [`Config::job_of`].
    pub fn job(&self, registry: &Catalog, random: impl FnMut() -> u64) -> Result<Job> {
        self.job_of(self.request_with(registry, random)?)
    }

    /// The job of a request, from this config's file of noise where it names one.
    ///
    /// # Errors
    /// [`Error::Run`] for a number out of its range or an option that does not exist, and those of [`noise_file`].
    pub fn job_of(&self, request: Txt2Img) -> Result<Job> {
        let request = request.checked()?;
        let noise = match &self.sampling.noise {
            Some(Noise::Source(_)) | None => None,
            Some(Noise::File(path)) => Some(noise_file(path, &request)?),
        };
        Ok(noise.into_iter().fold(Job::of(request)?, Job::given_noise))
    }

    /// The request that this config describes, with the given seed where it asks for a random one. A request has no file of noise:
    /// [`Config::job`] reads it.
    ///
    /// # Errors
    /// [`Error::Registry`] for a name that does not exist, [`Error::Value`] for a sampler's name that ends in another schedule
    /// than the one that is given, and [`Error::Run`] or [`Error::PictureMemory`] for a picture to start from that can't be read.
    pub fn request(&self, random: impl FnMut() -> u64) -> Result<Txt2Img> {
        self.request_with(&catalog(), random)
    }

    /// The same, with the samplers and schedules of a registry.
    ///
    /// # Errors
    /// As [`Config::request`].
    pub fn request_with(&self, registry: &Catalog, mut random: impl FnMut() -> u64) -> Result<Txt2Img> {
        let Self { sampling, prompt, image, .. } = self;
        let (sampler, schedule) = named(registry, "sampling", &sampling.sampler, sampling.schedule.as_deref())?;
        let profile = registry.profile(&sampling.profile)?;
        let positive = self.with_loras(&prompt.positive, &prompt.negative)?;
        let (start, size) = self.start()?;
        Ok(Txt2Img {
            seed: match sampling.seed {
                Seed::Fixed(seed) => seed,
                Seed::Random => random(),
            },
            noise: match sampling.noise {
                Some(Noise::Source(source)) => source,
                Some(Noise::File(_)) | None => profile.noise,
            },
            batch: image.batch,
            variation: (sampling.variation_strength > 0.0).then(|| Variation {
                seed: match sampling.variation_seed {
                    Seed::Fixed(seed) => seed,
                    Seed::Random => random(),
                },
                strength: sampling.variation_strength,
            }),
            resized_from: match (sampling.seed_resize_width, sampling.seed_resize_height) {
                (Some(width), Some(height)) => Some(Size { width, height }),
                (None, None) => None,
                (width, _) => {
                    let missing = if width.is_none() { "seed_resize_width" } else { "seed_resize_height" };
                    return Err(Error::Value {
                        key: format!("sampling.{missing}"),
                        expected: "a number, as the other side is given".into(),
                        found: "nothing".into(),
                    });
                }
            },
            pass: Pass {
                negative: prompt.negative.clone(),
                steps: sampling.steps,
                sampler,
                schedule: schedule.unwrap_or_else(samplers::simple),
                sigmas: sampling.sigmas.clone(),
                options: sampling.options.clone(),
                profile,
                cfg: sampling.cfg.clone(),
                emphasis: prompt.emphasis,
                size,
                start,
                control: self.control_picture()?,
                knobs: self.knobs.clone(),
                ..Pass::of(positive)
            },
            hires: self.second_pass(registry)?,
            refiner: self.refiner(),
        })
    }

    /// The memory ceiling: the config's, or what the device has free, which on the CPU Linux tells; elsewhere none.
    pub fn ceiling(&self) -> Ceiling {
        let free = || match self.device.backend {
            Backend::Cpu => limits::available(),
            backend => {
                let of_device = |bytes| Ceiling { bytes: Bytes(bytes), from: CeilingOf::Device };
                core_tensor::free_memory(&backend.to_string()).map(of_device).or_else(limits::available)
            }
        };
        let own = |bytes| Ceiling { bytes, from: CeilingOf::Config };
        self.device.memory.map(own).or_else(free).unwrap_or_else(Ceiling::none)
    }

    /// The same for what lies in the memory of the host, whatever computes.
    pub(crate) fn host_ceiling(&self) -> Ceiling {
        match self.device.backend {
            Backend::Cpu => self.ceiling(),
            Backend::Cuda(_) | Backend::Vulkan(_) => limits::available().unwrap_or_else(Ceiling::none),
        }
    }

    /// Finds out whether the host has room for so many bytes of a picture beside what an idle process holds, and says what it has beside both.
    ///
    /// # Errors
    /// [`Error::PictureMemory`].
    pub fn room_for(&self, picture: &Path, bytes: Bytes) -> Result<Bytes> {
        let ceiling = self.host_ceiling();
        let needed = Bytes(bytes.0.saturating_add(process::PROCESS));
        let left = ceiling.bytes.0.checked_sub(needed.0).map(Bytes);
        left.ok_or_else(|| Error::PictureMemory { path: picture.to_owned(), needed, ceiling })
    }

    /// The number format that upscalers compute in: f32 unless the config asks for another.
    ///
    /// # Errors
    /// As [`Config::compute`].
    pub(crate) fn upscaling_compute(&self) -> Result<Compute> {
        match self.device.compute {
            ComputeChoice::Bf16 | ComputeChoice::F16 | ComputeChoice::Tf32 | ComputeChoice::Integers => self.compute(),
            ComputeChoice::Auto | ComputeChoice::F32 => Ok(Compute::F32),
        }
    }

    /// The number format that products are computed in: integers on a CPU where those are the fastest, with what is none in bf16 where the
    /// CPU has instructions for it; bf16 on other CPUs with such instructions and on CUDA, f16 on Vulkan's cards that have it, and f32 elsewhere,
    /// unless the config asks for another.
    ///
    /// # Errors
    /// [`Error::Value`] for a number format that nothing on the device computes in.
    pub fn compute(&self) -> Result<Compute> {
        let isa = kernels::Isa::best();
        let backend = self.device.backend;
        let (bf16, f16, tf32, integers) = match backend {
            Backend::Cpu => (isa.has_bf16(), false, false, true),
            Backend::Cuda(_) => (true, true, true, false),
            Backend::Vulkan(_) => (false, core_tensor::has_f16(&backend.to_string()), false, false),
        };
        let others = match (bf16, f16, tf32, integers) {
            (_, _, true, _) => "`auto`, `f32`, `tf32`, `bf16` or `f16`",
            (true, _, _, true) => "`auto`, `f32`, `bf16` or `integers`",
            (false, _, _, true) => "`auto`, `f32` or `integers`",
            (_, true, ..) => "`auto`, `f32` or `f16`",
            _ => "`auto` or `f32`",
        };
        // Software has f16 as numbers that it converts for each product.
        let prefers_f16 = f16 && !bf16 && backend != Backend::Vulkan(Adapter::Software);
        let missing = |what: &str| Error::Value {
            key: "device.compute".into(),
            expected: format!("{others}, without {what} in this device"),
            found: format!("`{}`", self.device.compute),
        };
        match self.device.compute {
            ComputeChoice::Auto if integers && isa.prefers_integers() => Ok(Compute::Integers),
            ComputeChoice::Auto | ComputeChoice::Bf16 if bf16 => Ok(Compute::Bf16),
            ComputeChoice::Auto if prefers_f16 => Ok(Compute::F16),
            ComputeChoice::Auto | ComputeChoice::F32 => Ok(Compute::F32),
            ComputeChoice::Integers if integers => Ok(Compute::Integers),
            ComputeChoice::F16 if f16 => Ok(Compute::F16),
            ComputeChoice::Tf32 if tf32 => Ok(Compute::Tf32),
            ComputeChoice::Bf16 => Err(missing("bf16")),
            ComputeChoice::F16 => Err(missing("products of f16")),
            ComputeChoice::Tf32 => Err(missing("products of TF32")),
            ComputeChoice::Integers => Err(missing("products of integers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use diffusion_engine::{Filter, Upscaler};
    use samplers::noise::NoiseSource;

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
    fn a_value_of_the_wrong_kind_or_range_is_refused_with_its_key_and_place() {
        for (text, key, expected) in [
            ("[sampling]\nsteps = -1", "sampling.steps", "1 to 1000"),
            ("[sampling]\nsteps = \"4\"", "sampling.steps", "a whole number from 1 to 1000"),
            ("[sampling]\nseed = \"yes\"", "sampling.seed", "`random` or 0 to 18446744073709551615"),
            ("[sampling]\nseed = -3", "sampling.seed", "`random` or 0 to 18446744073709551615"),
            ("[sampling]\nguidance = 101", "sampling.guidance", "0 to 100"),
            ("[image]\nwidth = 1.5", "image.width", "a whole number from 16 to 16384"),
            ("[prompt]\nt5_length = 0", "prompt.t5_length", "1 to 4096"),
            ("[device]\nbackend = \"gpu\"", "device.backend", "`cpu`, `cuda:N`, `vulkan:N` or `vulkan:software`"),
            ("[device]\ncompute = \"f64\"", "device.compute", "`auto`, `f32`, `tf32`, `bf16`, `f16` or `integers`"),
            ("[device]\nmemory = \"much\"", "device.memory", "a size such as `16 GiB`"),
            ("[device]\nthreads = 1025", "device.threads", "0 to 1024"),
        ] {
            let Err(Error::ParseConfig { source, .. }) = read(text) else { panic!("{text}") };
            let says = source.message();
            assert!(says.starts_with(&format!("`{key}` is ")), "{says}");
            assert!(says.ends_with(&format!(", expected {expected}")), "{says}");
            assert!(source.to_string().contains("at line 2, column "), "{source}");
        }
        for text in ["[sampling", "\u{0}"] {
            assert!(matches!(read(text), Err(Error::ParseConfig { .. })), "{text}");
        }
        let named = |text: &str| read(text).unwrap().request(|| 0).err().unwrap().fault();
        assert_eq!(named("[sampling]\nsampler = \"eulr\""), Fault::Usage);
        assert_eq!(named("[sampling]\nprofile = \"x\""), Fault::Usage);
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused_with_those_that_do() {
        let Err(Error::ParseConfig { source, .. }) = read("[prompt]\nt5_lenght = 4") else { panic!("it was read") };
        assert_eq!(
            source.message(),
            "unknown field `t5_lenght`, expected one of `positive`, `negative`, `emphasis`, `embeddings`, `loras`, `styles`, `styles_file`, `wildcards`, `t5_length`, `clip_skip`, `aesthetic_score`, `negative_aesthetic_score`"
        );
        assert!(source.to_string().contains("at line 2, column 1"), "{source}");
    }

    #[test]
    fn what_somebody_else_will_set_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flux.toml");
        fs::write(&path, "[sampling]\nsteps = 0\ncfg = 2\n[model]\nclip = \"https://example.org/clip\"").unwrap();
        assert!(Config::read(&path).is_err());
        let without = [find("sampling", "steps").unwrap(), find("model", "clip").unwrap()];
        let config = Config::read_without(&path, &without).unwrap();
        assert_eq!((config.sampling.steps, config.sampling.cfg, config.model.clip), (20, 2.0.into(), None));
    }

    #[test]
    fn a_key_that_is_set_reads_as_what_it_was_set_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        for key in keys() {
            let text = match key.kind {
                Kind::Whole { min, .. } => (min + 1).to_string(),
                Kind::Number { min, max } if key.initial() == Some(Value::Number(max)) => min.to_string(),
                Kind::Number { max, .. } | Kind::PerStep { max, .. } => max.to_string(),
                Kind::Numbers { .. } => "1,0.5".to_owned(),
                Kind::Names => "a,b".to_owned(),
                Kind::Places => "2, 7-9".to_owned(),
                Kind::Choice(names) => {
                    let is_other = |name: &&&str| key.initial() != Some(Value::Text((**name).to_owned()));
                    names.iter().rfind(is_other).unwrap().to_string()
                }
                Kind::Backend => "cuda:1".to_owned(),
                Kind::Noise => "nv".to_owned(),
                Kind::Upscaler => folder.path().join("a.pth").display().to_string(),
                Kind::Size => "4096".to_owned(),
                Kind::Seed => "7".to_owned(),
                Kind::File | Kind::Folder | Kind::Output => folder.path().join("a.png").display().to_string(),
                Kind::Words { .. } | Kind::Sampler | Kind::Schedule | Kind::Profile => "x".to_owned(),
                // They have names of their own.
                Kind::Options => continue,
            };
            let value = key.read(&text);
            assert_ne!(config.get(key), Some(value.clone()), "{}", key.path());
            config.set(key, &value, "--flag").unwrap();
            assert_eq!(config.get(key), Some(value), "{}", key.path());
            assert!(config.set(key, &Value::Other("1979-05-27".into()), "--flag").is_err(), "{}", key.path());
        }
    }

    #[test]
    fn products_are_of_the_fastest_numbers_that_a_device_multiplies_or_of_those_asked_for() {
        let compute = |text: &str| read(&format!("[device]\n{text}")).unwrap().compute();
        let isa = kernels::Isa::best();
        let best = match isa.level() {
            kernels::Level::Avx2 | kernels::Level::Avx512 | kernels::Level::Avx512Bf16 => Compute::Integers,
            kernels::Level::Amx => Compute::Bf16,
            kernels::Level::Portable | kernels::Level::Neon => Compute::F32,
        };
        assert_eq!(compute("compute = \"auto\"").unwrap(), best);
        assert_eq!(compute("compute = \"f32\"").unwrap(), Compute::F32);
        assert_eq!(compute("compute = \"integers\"").unwrap(), Compute::Integers);
        assert_eq!(compute("compute = \"auto\"\nbackend = \"cuda:0\"").unwrap(), Compute::Bf16);
        assert_eq!(compute("compute = \"auto\"\nbackend = \"vulkan:999\"").unwrap(), Compute::F32);
        assert_eq!(compute("compute = \"f16\"\nbackend = \"cuda:0\"").unwrap(), Compute::F16);
        assert_eq!(compute("compute = \"tf32\"\nbackend = \"cuda:0\"").unwrap(), Compute::Tf32);
        assert_eq!(compute("compute = \"bf16\"").is_ok(), isa.has_bf16());
        for refused in [
            "\"bf16\"\nbackend = \"vulkan:999\"",
            "\"f16\"",
            "\"tf32\"",
            "\"f16\"\nbackend = \"vulkan:999\"",
            "\"tf32\"\nbackend = \"vulkan:999\"",
            "\"integers\"\nbackend = \"vulkan:999\"",
            "\"integers\"\nbackend = \"cuda:0\"",
        ] {
            let refused = compute(&format!("compute = {refused}")).err().unwrap();
            assert_eq!(refused.fault(), Fault::Usage);
        }
    }

    #[test]
    fn an_upscaler_is_a_name_or_a_file() {
        let upscaler =
            |text: &str| read(&format!("[hires]\nupscaler = \"{text}\"")).map(|config| config.hires.upscaler);
        assert_eq!(upscaler("Lanczos").unwrap(), HiresUpscaler::Plain(Upscaler::Picture(Filter::Lanczos)));
        for file in ["x4.pth", "x4.safetensors", "models/x4.pth", "./models/x4"] {
            assert!(
                matches!(upscaler(file).unwrap(), HiresUpscaler::File(path) if path.ends_with(file.trim_start_matches("./"))),
                "{file}"
            );
        }
        let Err(Error::ParseConfig { source, .. }) = upscaler("latent-cubic") else { panic!("it was read") };
        assert!(source.message().contains("`lanczos`, `nearest` or a network's file"), "{}", source.message());
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
