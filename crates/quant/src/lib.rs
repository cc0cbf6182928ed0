//! Containers and quantised tensors, recognised by their bytes and names.
//!
//! Quantised files are not run yet; the engine knows them so that one given as a model is named for what it is.

#![warn(missing_docs)]

mod container;
mod scheme;

pub use container::{Container, HEAD};
pub use scheme::{Quantised, Scheme};
