//! Text to picture, as a library.
//!
//! ```no_run
//! use forge::{Forge, Txt2Img};
//!
//! fn main() -> forge::Result<()> {
//!     let forge = Forge::open("flux.toml")?;
//!     let mut run = forge.txt2img(Txt2Img::of("a lighthouse in a storm").seed(42).steps(4))?;
//!     for event in &mut run {
//!         println!("{}", event?); // 3/4  sigma 0.50 -> 0.25
//!     }
//!     Ok(run.image()?.save("lighthouse.png")?)
//! }
//! ```
//!
//! [`Config`] is what a `flux.toml` says, [`Families`] what its files may be, [`Forge`] an opened model, [`Job`] what is drawn, [`Run`]
//! a job in progress, which the caller drives. A `Forge` may be shared by threads and have several runs at once. Most crates below are
//! re-exported for those who build from the parts.

#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod apart;
mod beside;
mod brought;
mod config;
mod convert;
mod convert_fault;
mod detect;
mod drawn_from;
mod dump;
mod embeddings;
mod encoder_beside;
mod enlarger;
mod error;
mod families;
mod fault;
mod files;
mod forge;
mod inspect;
pub mod keys;
mod lent;
mod limits;
mod listed;
mod loras;
mod model_files;
mod model_hash;
mod noise_file;
mod not_a_path;
mod open;
mod opened_device;
mod outputs;
pub mod paths;
mod pattern;
mod plans;
mod preview_decoder;
mod process;
mod read_once;
mod replay;
mod run;
mod stoppable;
pub mod text_file;
mod threads;
mod upscaler_file;
mod wildcards;
mod words;

pub use apart::{check_apart, check_apart_from};
pub use config::{
    Adapter, Backend, ComputeChoice, Config, Control as ControlConfig, Device, Hires as HiresConfig, HiresUpscaler,
    Image as ImageConfig, Img2img as Img2imgConfig, Inpaint as InpaintConfig, InpaintArea, Lora as LoraConfig,
    Model as ModelConfig, Noise, Preview as PreviewConfig, Prompt, Refiner as RefinerConfig, Sampling, Seed,
    SoftInpainting, Table,
};
pub use convert::{Converted, Recipe, Rule, Target, Written, convert};
pub use convert_fault::ConvertFault;
pub use core_tensor;
pub use diffusion_engine::{
    self, Cancel, Event, Family, Image, Ingredient, Job, Key, Likeness, Pass, PictureFormat, Provenance, Size,
    Snapshot, StepReport, Txt2Img, Wrap, read_infotext,
};
pub use dump::dump;
pub use enlarger::{Enlarger, Further};
pub use error::{Error, NotANumber, Result, with_causes};
pub use families::{Families, catalog};
pub use fault::Fault;
pub use flux;
pub use forge::Forge;
pub use inspect::{InspectedPart, Inspection, MOST_MISSING, inspect, inspect_with};
pub use limits::{Ceiling, CeilingOf};
pub use lora;
pub use loras::{Asked, InspectedLora, LoraIndex, Metadata, Steps, lora_hash, metadata as lora_metadata};
pub use memory;
pub use model_files::{Finding, Group, Note, indexed_files};
pub use model_hash::{ModelHash, model_hash};
pub use noise_file::noise_file;
pub use not_a_path::NotAPath;
pub use outputs::{Outputs, Pictures, check_text};
pub use paths::STANDARD_OUTPUT;
pub use pattern::Pattern;
pub use process::{MemoryWatch, limit_kept};
pub use quant;
pub use replay::{Difference, Replay};
pub use run::{Preview, Run};
pub use samplers;
pub use stable_diffusion;
pub use text_file::TextError;
pub use threads::{ThreadCount, Threads};
pub use upscale;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
