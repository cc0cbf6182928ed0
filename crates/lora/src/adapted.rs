use std::{collections::HashMap, sync::Arc};

use core_tensor::{Branch, Error, Manifest, Stored, WeightSource};

/// A source whose tensors have more branches.
pub struct Adapted {
    source: Arc<dyn WeightSource>,
    branches: HashMap<String, Vec<Branch>>,
}

impl std::fmt::Debug for Adapted {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Adapted").field("source", &self.source.label()).finish_non_exhaustive()
    }
}

impl Adapted {
    /// A source with these branches of its tensors, by their names in it.
    pub fn of(source: Arc<dyn WeightSource>, branches: impl IntoIterator<Item = (String, Branch)>) -> Self {
        let mut by_name: HashMap<String, Vec<Branch>> = HashMap::new();
        branches.into_iter().for_each(|(name, branch)| by_name.entry(name).or_default().push(branch));
        Self { source, branches: by_name }
    }
}

impl WeightSource for Adapted {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        self.source.read(name)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        let added = self.branches.get(name).into_iter().flatten().cloned();
        self.source.branches(name).into_iter().chain(added).collect()
    }
}
