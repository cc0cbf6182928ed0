use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Branch, Error, Format, Manifest, Stored, WeightSource};

/// A source with adapters merged into its tensors, for a file of its own: `W + Σ strength · scale · ΔW`, at the strengths that are set when
/// a tensor is read.
///
/// What is changed is F32 and computed whenever it is read, one tensor at a time; all else is what it was.
pub struct Merged {
    source: Arc<dyn WeightSource>,
    branches: BTreeMap<String, Vec<Branch>>,
    manifest: Manifest,
}

impl std::fmt::Debug for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Merged").field("source", &self.source.label()).finish_non_exhaustive()
    }
}

impl Merged {
    /// A source with these branches merged, by the tensors' names in it. Of a tensor that it has not nothing comes.
    pub fn of(source: Arc<dyn WeightSource>, branches: impl IntoIterator<Item = (String, Branch)>) -> Self {
        let mut by_tensor = BTreeMap::<String, Vec<Branch>>::new();
        branches.into_iter().for_each(|(name, branch)| by_tensor.entry(name).or_default().push(branch));
        let of = |(name, form): (&str, core_tensor::Form)| {
            let format = if by_tensor.contains_key(name) { Format::F32 } else { form.format };
            (name.to_owned(), format, form.shape.to_vec())
        };
        let manifest = source.manifest().iter().map(of).collect();
        Self { source, branches: by_tensor, manifest }
    }
}

impl WeightSource for Merged {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let stored = self.source.read(name)?;
        let Some(branches) = self.branches.get(name) else { return Ok(stored) };
        let format =
            || Error::Format { name: name.to_owned(), source_name: self.label().to_owned(), found: stored.format() };
        let mut values = stored.to_f32().ok_or_else(format)?;
        branches.iter().try_for_each(|branch| branch.add_to(&mut values, name, stored.shape()))?;
        Ok(Stored::of(&values, stored.shape().to_vec()))
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.source.branches(name)
    }
}
