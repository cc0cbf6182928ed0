//! Tensors that no file has.

use super::{Manifest, Stored, WeightSource};
use crate::Error;

/// Tensors by name.
pub(crate) struct Memory {
    tensors: Vec<(String, Stored)>,
    manifest: Manifest,
}

impl Memory {
    pub(crate) fn of<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Stored)>) -> Self {
        let tensors: Vec<(String, Stored)> = tensors.into_iter().map(|(name, s)| (name.into(), s)).collect();
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
        let missing = || Error::Missing { name: name.to_owned(), source_name: "memory".to_owned() };
        self.tensors.iter().find(|(n, _)| *n == name).map(|(_, s)| s.clone()).ok_or_else(missing)
    }
}
