//! A file's tensors on their way into another, and what LoRAs add to them.

use std::sync::Arc;

use core_tensor::{Branch, WeightSource};
use diffusion_engine::family::{Kind, Role};
use lora::{Blocks, Dora, Merged, Report, Target};

use super::Recipe;
use crate::{
    Error, Families, LoraConfig, Result,
    convert_fault::ConvertFault,
    loras::read_lora,
    model_files::{ModelConfig, ModelFile},
    open::is_adaptable,
};

/// What LoRAs add to a file's tensors, by the names that these have on their way.
#[derive(Default)]
pub(super) struct Merging {
    branches: Vec<(String, Branch)>,
    /// What found its place of each.
    pub(super) reports: Vec<Report>,
}

impl Merging {
    /// What a recipe's LoRAs add.
    ///
    /// # Errors
    /// A LoRA that can't be read or merged, or does not fit.
    pub(super) fn of(file: &ModelFile, families: &Families, recipe: &Recipe) -> Result<Self> {
        if file.lora().is_some() {
            return Err(ConvertFault::Lora { path: file.path.clone() }.into());
        }
        let mut merging = Self::default();
        let last = |at: usize| recipe.loras[at + 1..].iter().all(|later| later.path != recipe.loras[at].path);
        let loras: Vec<&LoraConfig> =
            (0..recipe.loras.len()).filter(|at| last(*at)).map(|at| &recipe.loras[at]).collect();
        if loras.is_empty() {
            return Ok(merging);
        }
        let parts = parts(file, families)?;
        let targets: Vec<Target> = parts.iter().map(|part| part.target.clone()).collect();
        let model = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy();
        for lora in loras {
            merging.add(lora, &model, (&parts, &targets), recipe.partly)?;
        }
        Ok(merging)
    }

    fn add(
        &mut self,
        lora: &LoraConfig,
        model: &str,
        (parts, targets): (&[Part], &[Target]),
        partly: bool,
    ) -> Result<()> {
        let path = lora.file().ok_or_else(|| ConvertFault::NoLoraFile { name: lora.name() })?;
        if let Some(steps) = lora.steps {
            return Err(ConvertFault::LoraSteps { path: path.to_owned(), steps }.into());
        }
        let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
        let (file, _) = read_lora(path).map_err(load)?;
        if file.words().len() > 0 && !partly {
            let words = file.words().map(str::to_owned).collect();
            return Err(ConvertFault::LoraWords { path: path.to_owned(), words }.into());
        }
        let fitted = file.fitted(model, targets, dora(lora)?)?;
        let fitted = if partly { fitted } else { fitted.whole()? };
        let blocks = lora.blocks.as_deref().map(Blocks::read).transpose()?.unwrap_or_default();
        fitted.adapter.set(lora.strength, lora.text.unwrap_or(lora.strength), &blocks);
        for (at, part) in parts.iter().enumerate() {
            for (name, branch) in fitted.branches(at) {
                self.branches.push(part.placed(name, branch)?);
            }
        }
        self.reports.push(fitted.report);
        Ok(())
    }

    /// A source with all of it in its tensors.
    ///
    /// # Errors
    /// A tensor that the source has not.
    pub(super) fn over(&self, source: Arc<dyn WeightSource>) -> Result<Arc<dyn WeightSource>> {
        if let Some((name, _)) = self.branches.iter().find(|(name, _)| !source.manifest().contains(name)) {
            let (name, source_name) = (name.clone(), source.label().to_owned());
            return Err(core_tensor::Error::Missing { name, source_name }.into());
        }
        Ok(match self.branches.is_empty() {
            true => source,
            false => Arc::new(Merged::of(source, self.branches.iter().cloned())),
        })
    }
}

/// The tensors of a file of one model under the names that its network asks for, and their prefix; of any other under its own. What the
/// network has no name for is not among them: [`ModelFile::beside_source`].
pub(super) fn as_network(file: &ModelFile, families: &Families) -> (Arc<dyn WeightSource>, Option<String>) {
    match file.parts.as_slice() {
        [only] if families.role_of(&only.kind).is_some() => {
            let source = file.source(0, &only.kind);
            let is_under = source.manifest().names().all(|name| name.starts_with(&only.prefix));
            let prefix = if is_under { only.prefix.clone() } else { String::new() };
            (source, Some(prefix))
        }
        _ => (file.tensors(), None),
    }
}

/// How a LoRA's magnitudes are understood.
fn dora(lora: &LoraConfig) -> Result<Dora> {
    match lora.dora.as_deref() {
        None | Some("forge") => Ok(Dora::Forge),
        Some("paper") => Ok(Dora::Paper),
        Some(other) => Err(Error::Value {
            key: "lora.dora".into(),
            expected: "`forge` or `paper`".into(),
            found: format!("`{other}`"),
        }),
    }
}

/// A part of a file that LoRAs change.
struct Part {
    target: Target,
    kind: Arc<Kind>,
    prefix: String,
    /// Whether it is written under the names that its network asks for.
    is_renamed: bool,
}

impl Part {
    /// A branch by the name that its tensor has on its way into the new file.
    fn placed(&self, name: String, branch: Branch) -> Result<(String, Branch)> {
        if self.is_renamed {
            return Ok((name, branch));
        }
        let manifest = self.target.source.manifest();
        let shape = manifest.get(&name).map_or(&[][..], |form| form.shape);
        let placed = self.kind.place_of(&self.prefix, (&name, shape), branch);
        placed.ok_or_else(|| ConvertFault::Renamed { part: self.kind.name.clone() }.into())
    }
}

/// A role, the part of the file that has it, and what kind that is.
type Told = (Role, usize, Arc<Kind>);

/// The parts that LoRAs change: those of the family whose word for what denoises is the most specific, or of which there are the most.
fn parts(file: &ModelFile, families: &Families) -> Result<Vec<Part>> {
    let (_, whole) = as_network(file, families);
    let mut best: Option<((usize, usize), Vec<Told>)> = None;
    for (_, roles) in families.with_roles() {
        let mut taken: Vec<usize> = Vec::new();
        let mut found = Vec::new();
        for role in roles {
            if let Ok((part, kind)) = file.part_for(role, &taken) {
                taken.push(part);
                found.push((role.clone(), part, kind));
            }
        }
        let first = found.iter().find(|(role, ..)| roles.first().is_some_and(|first| first.key == role.key));
        let word = (first.map_or(0, |(.., kind)| kind.specificity()), found.len());
        if best.as_ref().is_none_or(|(other, _)| word > *other) {
            best = Some((word, found));
        }
    }
    let found = best.map(|(_, found)| found).unwrap_or_default();
    let adaptable = found.into_iter().filter(|(role, ..)| is_adaptable(role.network.duty));
    let part = |(role, at, kind): Told| -> Result<Part> {
        let config = ModelConfig::of(file, &role.network)?.config;
        let settings = config.as_ref().map(ModelConfig::settings).unwrap_or_default();
        let of_file = file.part((at, &kind), role.key.clone(), settings);
        let (root, layout) = of_file.layout(&role.network)?;
        let target = Target {
            part: role.key,
            duty: role.network.duty,
            root,
            spellings: role.network.spellings_of(&layout),
            layout,
            source: of_file.source(),
        };
        Ok(Part { target, kind, prefix: file.parts[at].prefix.clone(), is_renamed: whole.is_some() })
    };
    let parts = adaptable.map(part).collect::<Result<Vec<_>>>()?;
    match parts.is_empty() {
        true => Err(ConvertFault::NothingToMerge { found: file.name().to_owned() }.into()),
        false => Ok(parts),
    }
}
