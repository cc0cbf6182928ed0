//! The types that some keys of a config have of their own.

use std::{fmt, path::PathBuf, str::FromStr};

use diffusion_engine::{Kind, Upscaler, Value};
use samplers::noise::NoiseSource;

use super::setting::{Setting, text, whole};
use crate::{Error, Result, threads::ThreadCount};

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The CPU.
    #[default]
    Cpu,
    /// CUDA's device of this number.
    Cuda(usize),
    /// One of Vulkan's adapters.
    Vulkan(Adapter),
}

/// Which of the adapters that Vulkan's loader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// The card that is likely the fastest.
    Best,
    /// The one of this number, which is a card.
    Number(usize),
    /// The first that computes on the CPU.
    Software,
}

/// As a config has it, which is as [`core_tensor::device`] takes it.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Vulkan(Adapter::Best) => f.write_str("vulkan"),
            Self::Vulkan(Adapter::Number(n)) => write!(f, "vulkan:{n}"),
            Self::Vulkan(Adapter::Software) => f.write_str("vulkan:software"),
        }
    }
}

impl FromStr for Backend {
    type Err = Error;

    /// `cpu`, or `cuda` and `vulkan` with a device's number, or without: CUDA's first, and Vulkan's best.
    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        match (name, number.parse()) {
            ("cpu", Ok(0)) => Ok(Self::Cpu),
            ("cuda", Ok(n)) => Ok(Self::Cuda(n)),
            ("vulkan", _) if text == name => Ok(Self::Vulkan(Adapter::Best)),
            ("vulkan", Ok(n)) => Ok(Self::Vulkan(Adapter::Number(n))),
            ("vulkan", Err(_)) if number == "software" => Ok(Self::Vulkan(Adapter::Software)),
            _ => Err(wrong("device.backend", Kind::Backend.range(), text)),
        }
    }
}

/// The number format that products are computed in, as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeChoice {
    /// The fastest that the device multiplies.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16, with sums in f32.
    Bf16,
    /// f16, with sums in f32, on cards; the parts whose values leave its range in bf16, or on Vulkan in f32.
    F16,
    /// f32 whose products see 11 bits of each mantissa, on CUDA.
    Tf32,
    /// Weights that are integers in their file as such, everything else in bf16 on AVX-512 with instructions for it, and in f32 elsewhere.
    Integers,
}

impl fmt::Display for ComputeChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Tf32 => "tf32",
            Self::Integers => "integers",
        })
    }
}

impl FromStr for ComputeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "tf32" => Ok(Self::Tf32),
            "integers" => Ok(Self::Integers),
            _ => Err(wrong("device.compute", "`auto`, `f32`, `tf32`, `bf16`, `f16` or `integers`".into(), text)),
        }
    }
}

/// A seed, or the wish for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seed {
    /// This one.
    Fixed(u64),
    /// A new one for each run.
    #[default]
    Random,
}

impl FromStr for Seed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            // -1 is what A1111 and its relatives write for it.
            "random" | "-1" => Ok(Self::Random),
            _ => text.parse().map(Self::Fixed).map_err(|_| wrong("sampling.seed", Kind::Seed.range(), text)),
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(seed) => write!(f, "{seed}"),
            Self::Random => f.write_str("random"),
        }
    }
}

/// Where the starting noise comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noise {
    /// The seed, through a generator.
    Source(NoiseSource),
    /// The tensor `noise` of a safetensors file.
    File(PathBuf),
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
        Err(wrong("sampling.noise", Kind::Noise.range(), text))
    }
}

/// What makes the first pass's result larger for the second.
#[derive(Clone, Debug, PartialEq)]
pub enum HiresUpscaler {
    /// One that needs no file.
    Plain(Upscaler),
    /// The network of a file.
    File(PathBuf),
}

impl Default for HiresUpscaler {
    fn default() -> Self {
        Self::Plain(Upscaler::default())
    }
}

impl FromStr for HiresUpscaler {
    type Err = Error;

    /// A name, or what ends as files of weights do or names a folder too.
    fn from_str(text: &str) -> Result<Self> {
        const ENDINGS: [&str; 5] = [".safetensors", ".pth", ".pt", ".ckpt", ".bin"];
        let lower = text.to_lowercase();
        match text.parse() {
            Ok(plain) => Ok(Self::Plain(plain)),
            Err(_) if ENDINGS.iter().any(|ending| lower.ends_with(ending)) => Ok(Self::File(text.into())),
            Err(_) if text.contains(std::path::is_separator) => Ok(Self::File(text.into())),
            Err(_) => Err(wrong("hires.upscaler", Kind::Upscaler.range(), text)),
        }
    }
}

fn wrong(key: &str, expected: String, found: &str) -> Error {
    Error::Value { key: key.into(), expected, found: format!("`{found}`") }
}

/// What an error of one of these types expected.
fn expected(error: Error) -> String {
    match error {
        Error::Value { expected, .. } => expected,
        other => other.to_string(),
    }
}

impl Setting for Backend {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        text(value)?.parse().map_err(expected)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

impl Setting for ComputeChoice {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        text(value)?.parse().map_err(expected)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

impl Setting for ThreadCount {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        Self::new(whole(value)?).map_err(expected)
    }

    fn value(&self) -> Option<Value> {
        // Of no cores at all, that for all cores is the 0 that it is written as.
        Some(Value::Whole(self.of(0) as i128))
    }
}

impl Setting for Seed {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        match value {
            Value::Whole(seed) => seed.to_string().parse().map_err(expected),
            other => text(other)?.parse().map_err(expected),
        }
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

impl Setting for HiresUpscaler {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        text(value)?.parse().map_err(expected)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(match self {
            Self::Plain(plain) => plain.id().to_owned(),
            Self::File(path) => path.display().to_string(),
        }))
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Plain(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Setting for Noise {
    fn read(value: &Value) -> std::result::Result<Self, String> {
        text(value)?.parse().map_err(expected)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(match self {
            Self::Source(source) => source.id().to_owned(),
            Self::File(path) => path.display().to_string(),
        }))
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Source(_) => None,
            Self::File(path) => Some(path),
        }
    }
}
