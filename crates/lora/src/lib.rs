//! LoRA files and their relatives: read, matched to a model's modules, and added to its weights as branches.
//!
//! A [`LoraFile`] is the tensors of an adapter by the modules that they change, whatever program named them. [`LoraFile::fitted`] finds
//! each module in the [`Target`]s of a model and makes [`Branch`](core_tensor::Branch)es of its tensors; [`Adapted`] is a weight source
//! that puts these into a model's layers and takes them out again. No weight is touched: an [`Adapter`]'s strengths may change between any two calls.

#![warn(missing_docs)]

mod adapted;
mod algorithms;
mod dialect;
mod error;
mod file;
mod fit;
mod leaf;
mod merged;
mod misfit;
mod names;
mod patterns;
mod report;
mod scale;
mod scaling;
mod strengths;
mod target;
mod tensors;

pub use adapted::Adapted;
pub use algorithms::{Algorithm, Dora};
pub use dialect::Dialect;
pub use error::{ConfigPlace, Error};
pub use file::LoraFile;
pub use fit::Fitted;
pub use merged::Merged;
pub use misfit::Misfit;
pub use patterns::PatternFault;
pub use report::{Report, Unmatched};
pub use strengths::{Adapter, Blocks};
pub use target::Target;
