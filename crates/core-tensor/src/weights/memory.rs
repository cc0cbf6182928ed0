//! Tensors that no file has.

use std::collections::BTreeMap;

use super::{Manifest, Stored, WeightSource};
use crate::Error;

/// Tensors by name.
#[derive(Debug)]
pub struct Memory {
    tensors: BTreeMap<String, Stored>,
    manifest: Manifest,
}

impl Memory {
    /// A source of these; of several with one name the last counts.
    pub fn of<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Stored)>) -> Self {
        let tensors: BTreeMap<String, Stored> = tensors.into_iter().map(|(name, s)| (name.into(), s)).collect();
        let manifest = tensors.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
        Self { tensors, manifest }
    }
}

impl WeightSource for Memory {
    fn label(&self) -> &str {
        "memory"
    }
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        self.tensors.get(name).cloned().ok_or_else(missing)
    }
}
