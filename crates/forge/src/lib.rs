//! Text to picture with Flux, as a library.
//!
//! ```no_run
//! use forge::{Forge, Txt2Img};
//!
//! fn main() -> forge::Result<()> {
//!     let mut forge = Forge::open("flux.toml")?;
//!     let mut run = forge.txt2img(Txt2Img::of("a lighthouse in a storm").seed(42).steps(4))?;
//!     for step in &mut run {
//!         println!("{}", step?); // 3/4  sigma 0.50 -> 0.25
//!     }
//!     Ok(run.image()?.save("lighthouse.png")?)
//! }
//! ```
//!
//! [`Config`] is what a `flux.toml` says, [`Forge`] a loaded model, [`Run`] one job in progress, which the caller drives step
//! by step. Most crates below are re-exported for those who build from the parts.

#![warn(missing_docs)]

mod config;
mod error;
mod inspect;
mod limits;
mod load;
mod model_files;
mod output;
mod outputs;
pub mod paths;
pub mod text_file;
mod threads;

pub use config::{Config, Device, Image as ImageConfig, Model as ModelConfig, Noise, Prompt, Sampling, Seed};
pub use core_tensor;
pub use diffusion_engine::{self, Image, Run, Size, StepReport, Txt2Img, read_infotext};
pub use error::{Error, Fault, Result};
pub use flux;
pub use inspect::{InspectedPart, Inspection, MOST_MISSING, inspect};
pub use memory;
pub use model_files::{Finding, Group, Note, indexed_files};
pub use output::{dump, noise_file};
pub use outputs::{Outputs, Pattern, Pictures, STANDARD_OUTPUT};
pub use paths::NotAPath;
pub use quant;
pub use samplers;
pub use text_file::TextError;
pub use threads::Threads;

use std::path::Path;

use ::samplers::Registry;
use core_tensor::Latent;

/// A loaded model, ready for any number of runs.
pub struct Forge {
    model: flux::Flux,
    notes: Vec<Note>,
}

impl Forge {
    /// Loads the model of a config file.
    ///
    /// # Errors
    /// A config that can't be read, or a model file that is rejected.
    pub fn open(config: impl AsRef<Path>) -> Result<Self> {
        Self::load(&Config::read(config.as_ref())?)
    }

    /// Loads the model of a config.
    ///
    /// # Errors
    /// A model file that is rejected, or too little memory for it.
    pub fn load(config: &Config) -> Result<Self> {
        Self::load_with(config, &Registry::builtin())
    }

    /// The same, where the config may name the samplers and schedules of a registry.
    ///
    /// # Errors
    /// As [`Forge::load`].
    pub fn load_with(config: &Config, registry: &Registry) -> Result<Self> {
        let (model, notes) = load::flux(config, registry)?;
        Ok(Self { model, notes })
    }

    /// Begins a run.
    ///
    /// # Errors
    /// A request that the model can't do.
    pub fn txt2img(&mut self, request: Txt2Img) -> Result<Run<'_>> {
        Ok(diffusion_engine::start(&self.model, request, None)?)
    }

    /// Begins a run from noise that the caller made, `[batch, channels, height / 8, width / 8]`.
    ///
    /// # Errors
    /// A request that the model can't do, or noise of another shape.
    pub fn txt2img_from(&mut self, request: Txt2Img, noise: Latent) -> Result<Run<'_>> {
        Ok(diffusion_engine::start(&self.model, request, Some(noise))?)
    }

    /// What the infotext calls the model.
    pub fn name(&self) -> &str {
        diffusion_engine::Model::name(&self.model)
    }

    /// What is odd about the model's files, and no reason to refuse them: tensors that nothing reads or that hold nothing.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The model's transformer, text encoders and autoencoder.
    pub fn model(&self) -> &flux::Flux {
        &self.model
    }
}

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
