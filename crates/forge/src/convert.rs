//! A model's file or folder, written again as one file whose tensors are stored in other formats.
//!
//! Every tensor's place is known before the first is read, as formats say how many bytes a shape takes. So the file is written from
//! beginning to end, a piece of a tensor at a time, and no more is ever in memory.

mod merging;
mod packing;
mod plan;
mod rules;
mod target;

use std::{
    io::{self, Write},
    path::Path,
};

use core_tensor::{Compute, Error as TensorError, Place};
use diffusion_engine::{Cancel, Unwritable, check_writable, sweep, write_new, write_whole};
use quant::GGUF_ALIGNMENT;

use self::{
    merging::Merging,
    packing::{Loss, Packing, Stop},
    plan::Plan,
};
pub use self::{rules::Rule, target::Target};
use crate::{
    Error, Families, LoraConfig, Result, apart,
    convert_fault::ConvertFault,
    model_files::{ModelConfig, ModelFile, shards_beside},
};

/// What a file is to become.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What matrices are stored in.
    pub target: Target,
    /// What else some tensors are stored in; of several that speak of a tensor the first counts.
    pub rules: Vec<Rule>,
    /// What is merged into it first: `W + Σ strength · ΔW` in f32, each change being that of `W` itself; of a file that is named twice the
    /// last counts.
    pub loras: Vec<LoraConfig>,
    /// Whether a LoRA may fit in part.
    pub partly: bool,
    /// Whether it takes the place of a file that is there.
    pub replaces: bool,
}

impl Recipe {
    /// Whether `output` may be made of `input` at all, by their names and what there is of them.
    ///
    /// # Errors
    /// [`Error::Convert`] for a name that says no kind of file, [`Error::Overwrites`] where the output is read too, and [`Error::Write`] where
    /// it can't be written.
    fn check(&self, input: &Path, output: &Path) -> Result<()> {
        Kept::of(output)?;
        apart::check_conversion(output, input, self.loras.iter().filter_map(LoraConfig::file))?;
        let unwritable = |source| Error::Write { path: output.to_owned(), source };
        check_writable(output).map_err(unwritable)?;
        if output.exists() && !self.replaces { Err(unwritable(Unwritable::Taken)) } else { Ok(()) }
    }
}

/// The kind of file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Gguf,
    Safetensors,
}

impl Kept {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        match &*ending {
            "gguf" => Ok(Self::Gguf),
            "safetensors" | "sft" => Ok(Self::Safetensors),
            _ => Err(ConvertFault::Ending { path: path.to_owned() }.into()),
        }
    }

    /// What to call it, with its article.
    fn name(self) -> &'static str {
        match self {
            Self::Gguf => "a GGUF file",
            Self::Safetensors => "a safetensors file",
        }
    }
}

/// A tensor that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// What it was stored in.
    pub from: String,
    /// What it is stored in.
    pub to: String,
    /// How many weights it has.
    pub weights: u64,
    /// The sum of the squares of its weights.
    pub squares: f64,
    /// The sum of the squares of what its weights are off.
    pub off: f64,
    /// The most that a weight is off.
    pub most: f32,
    /// How many bytes of the file there are up to its end, and in all.
    pub bytes: [u64; 2],
}

impl Written {
    /// The root of the mean squared error, as a share of that of the weights.
    pub fn error(&self) -> f64 {
        if self.squares > 0.0 { (self.off / self.squares).sqrt() } else { 0.0 }
    }
}

/// What came of a whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Converted {
    /// How many tensors it has, as a model counts them.
    pub tensors: usize,
    /// How many bytes it has.
    pub bytes: u64,
    /// As [`Written::squares`], over all.
    pub squares: f64,
    /// As [`Written::off`], over all.
    pub off: f64,
    /// What found its place of each LoRA that was merged, and what did not.
    pub loras: Vec<lora::Report>,
}

impl Converted {
    /// As [`Written::error`], over all.
    pub fn error(&self) -> f64 {
        if self.squares > 0.0 { (self.off / self.squares).sqrt() } else { 0.0 }
    }
}

/// Writes `input`, a file or a folder, to `output`, whose ending says whether it becomes a GGUF or a safetensors file. A file of one
/// model gets the names that its network asks for; one of several keeps its own, and so do tensors that its network has no name for.
/// `tell` is called behind each tensor.
///
/// # Errors
/// Those of [`crate::inspect`] for a file that can't be read, [`Error::Malformed`], [`Error::Quantised`] or [`Error::Unscaled`] for one
/// whose values can't be, [`Error::Convert`] for what can't be converted as asked,
/// [`Error::Lora`] for one that does not fit, [`Error::Overwrites`] where the output is read too, [`Error::Damaged`] for weights that are
/// no numbers, and what can go wrong when a file is written; then nothing is left of it.
pub fn convert(
    input: &Path,
    output: &Path,
    recipe: &Recipe,
    cancel: &Cancel,
    mut tell: impl FnMut(&Written),
) -> Result<Converted> {
    let kept = Kept::of(output)?;
    recipe.check(input, output)?;
    let families = Families::builtin();
    if let Some(of) = shards_beside(input) {
        return Err(ConvertFault::Shard { path: input.to_owned(), of }.into());
    }
    let file = ModelFile::open(input, families.kinds())?;
    file.is_readable()?;
    are_numbers_that_networks_take(&file, &families)?;
    let merging = Merging::of(&file, &families, recipe)?;
    let plan = Plan::of(&file, &families, recipe, &merging, kept)?;
    output.parent().map(sweep);
    let header = plan.header(kept)?;
    let whole = header.len() as u64 + plan.bytes(kept);
    let mut failed = None;
    let (tensors, loras) = (plan.tensors.len(), merging.reports);
    let mut converted = Converted { tensors, bytes: whole, loras, ..Converted::default() };
    let contents = |out: &mut dyn Write| {
        let mut fill = || {
            let mut packing = Packing::to(out, input, cancel);
            packing.put(&header)?;
            for tensor in &plan.tensors {
                let Loss { squares, off, most, .. } = packing.tensor(tensor)?;
                if kept == Kept::Gguf {
                    packing.pad(GGUF_ALIGNMENT)?;
                }
                // What was read of the file is not needed again.
                file.give_back();
                converted.squares += squares;
                converted.off += off;
                let name = tensor.entries[0].name.clone();
                let (from, to, weights) = (tensor.from.to_string(), tensor.to.to_string(), tensor.weights);
                tell(&Written { name, from, to, weights, squares, off, most, bytes: [packing.at(), whole] });
            }
            Ok(())
        };
        fill().map_err(|stop| match stop {
            Stop::Write(error) => error,
            Stop::Other(error) => {
                failed = Some(error);
                io::Error::from(io::ErrorKind::Interrupted)
            }
        })
    };
    let written = if recipe.replaces { write_whole(output, contents) } else { write_new(output, contents) };
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(|()| converted)?),
    }
}

/// Finds out whether the tensors that networks ask for are of numbers that they take. What a model lacks is of no account, as nothing is lost by that.
fn are_numbers_that_networks_take(file: &ModelFile, families: &Families) -> Result<()> {
    for (at, part) in file.parts.iter().enumerate().filter(|(_, part)| part.is_usable) {
        let Some(network) = families.network_of(&part.kind) else { continue };
        let config = ModelConfig::of(file, network)?.config;
        let found = file.survey((at, &part.kind), network, config.as_ref(), Place::Device(Compute::F32));
        if let Some(fault) = found.faults.into_iter().find(|fault| matches!(fault, TensorError::Format { .. })) {
            let source = Box::new(diffusion_engine::Error::from(fault).into());
            return Err(Error::Load { path: file.path.clone(), source });
        }
    }
    Ok(())
}

/// Texts of a file that say something of its model (Stability AI's model metadata standard, and what trainers write beside it).
const NOTES: [&str; 21] = [
    "modelspec.sai_model_spec",
    "modelspec.architecture",
    "modelspec.implementation",
    "modelspec.title",
    "modelspec.author",
    "modelspec.license",
    "modelspec.description",
    "modelspec.date",
    "modelspec.resolution",
    "modelspec.prediction_type",
    "modelspec.encoder_layer",
    "modelspec.timestep_range",
    "modelspec.usage_hint",
    "modelspec.tags",
    "modelspec.trigger_phrase",
    "modelspec.thumbnail",
    "modelspec.merged_from",
    "modelspec.implementation_version",
    "modelspec.language",
    "modelspec.preprocessor",
    "modelspec.is_negative_embedding",
];
