use std::{collections::BTreeMap, fmt, sync::Arc};

use core_tensor::{Compute, Device, Footprint, Layout, Manifest, Residency, WeightSource, Weights, ops};
use serde::de::DeserializeOwned;

use super::{Network, Settings};
use crate::{Embedding, Error, LentEmbeddings};

/// A part of a model in its file.
#[derive(Clone)]
pub struct Part {
    key: String,
    kind: String,
    source: Arc<dyn WeightSource>,
    file: Arc<dyn WeightSource>,
    prefix: String,
    settings: Settings,
    bytes: Footprint,
    leaves_f16: bool,
}

impl Part {
    /// The part that is a role's: `kind` is its kind's id, and `file` what it lies in, whose other tensors may be anybody's; before the
    /// names of the part's own stands `prefix`, which is empty or ends in a point.
    pub fn of(
        key: impl Into<String>,
        kind: impl Into<String>,
        file: Arc<dyn WeightSource>,
        prefix: impl Into<String>,
    ) -> Self {
        let (key, kind, prefix) = (key.into(), kind.into(), prefix.into());
        Self {
            key,
            kind,
            source: file.clone(),
            file,
            prefix,
            settings: Settings::default(),
            bytes: Footprint::default(),
            leaves_f16: false,
        }
    }

    /// The same, whose tensors are those of `source` under the names that its network asks for.
    pub fn renamed(self, source: Arc<dyn WeightSource>) -> Self {
        Self { source, ..self }
    }

    /// The same with what adapters add to its tensors: a source around its own.
    #[must_use]
    pub fn adapted(self, adapt: impl FnOnce(Arc<dyn WeightSource>) -> Arc<dyn WeightSource>) -> Self {
        Self { source: adapt(self.source.clone()), ..self }
    }

    /// Its tensors, under the names that its network asks for behind the file's prefix.
    pub fn source(&self) -> Arc<dyn WeightSource> {
        self.source.clone()
    }

    /// Every tensor that a network needs of it, and what stands before their names.
    ///
    /// # Errors
    /// [`Error::InPart`].
    pub fn layout(&self, network: &Network) -> Result<(String, Layout), Error> {
        self.look(|w| {
            let w = w.before(&network.mark);
            Ok((w.prefix(), network.layout(&w, &self.settings)?))
        })
    }

    /// The same with what its `config.json` says.
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The same with the bytes that it takes of memory.
    pub fn takes(self, bytes: Footprint) -> Self {
        Self { bytes, ..self }
    }

    /// The same, whose values go beyond those of f16: where products are computed in that, its own are in bf16, or f32 on a device without that.
    #[must_use]
    pub fn leaving_f16(self) -> Self {
        Self { leaves_f16: true, ..self }
    }

    /// The role that it has, by its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id of its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Bytes that it takes of memory.
    pub fn bytes(&self) -> Footprint {
        self.bytes
    }

    /// Every tensor of the file that it lies in, by the names there.
    pub fn file(&self) -> &Manifest {
        self.file.manifest()
    }

    /// What the file that it lies in says of itself under a key.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.file.note(key)
    }

    /// What its `config.json` says beside the tensors.
    ///
    /// # Errors
    /// [`Error::InPart`].
    pub fn config<T: DeserializeOwned + Default>(&self) -> Result<T, Error> {
        self.settings.read().map_err(|source| self.fault(source))
    }

    /// Looks at its tensors' headers.
    ///
    /// # Errors
    /// [`Error::InPart`] around what `look` comes to.
    pub fn look<T>(&self, look: impl FnOnce(&Weights) -> Result<T, Error>) -> Result<T, Error> {
        self.with(Weights::of(&*self.source, &Device::flex(), Residency::Mapped), look)
    }

    /// Builds its layers in a place.
    ///
    /// # Errors
    /// [`Error::InPart`] around what `load` comes to.
    pub fn load<T>(
        &self,
        placement: &Placement,
        residency: Residency,
        load: impl FnOnce(&Weights) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Placement { device, compute, .. } = placement;
        let compute = if self.leaves_f16 { ops::beyond_f16(*compute, device) } else { *compute };
        self.with(Weights::of(&*self.source, device, residency).computed_in(compute), load)
    }

    fn with<T>(&self, w: Weights, work: impl FnOnce(&Weights) -> Result<T, Error>) -> Result<T, Error> {
        let w = match self.prefix.strip_suffix('.') {
            Some(prefix) => w.at(prefix),
            None => w,
        };
        work(&w).map_err(|source| self.fault(source))
    }

    fn fault(&self, source: Error) -> Error {
        Error::InPart { key: self.key.clone(), source: Box::new(source) }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { key, kind, prefix, bytes, .. } = self;
        f.debug_struct("Part")
            .field("key", key)
            .field("kind", kind)
            .field("file", &self.file.label())
            .field("prefix", prefix)
            .field("bytes", bytes)
            .finish_non_exhaustive()
    }
}

/// The parts of a model, as its files and a config bring them.
#[derive(Clone, Debug)]
pub struct Parts {
    name: String,
    parts: Vec<Part>,
    scheduler: Settings,
    pipeline: Settings,
    yaml: Option<String>,
    embeddings: Vec<Embedding>,
    lent: LentEmbeddings,
}

impl Parts {
    /// The parts of a model that infotexts call `name`.
    pub fn of(name: impl Into<String>, parts: impl IntoIterator<Item = Part>) -> Self {
        Self {
            name: name.into(),
            parts: parts.into_iter().collect(),
            scheduler: Settings::default(),
            pipeline: Settings::default(),
            yaml: None,
            embeddings: Vec::new(),
            lent: LentEmbeddings::default(),
        }
    }

    /// The same with what the `scheduler_config.json` of the model's folder says, which is of no part.
    pub fn scheduler(self, scheduler: Settings) -> Self {
        Self { scheduler, ..self }
    }

    /// The same with what the `model_index.json` of the model's folder says of the pipeline.
    pub fn pipeline(self, pipeline: Settings) -> Self {
        Self { pipeline, ..self }
    }

    /// The same with the text of the YAML file of the same name as the model's file, as releases of latent-diffusion have it.
    pub fn yaml(self, text: impl Into<String>) -> Self {
        Self { yaml: Some(text.into()), ..self }
    }

    /// Each of the parts.
    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// The same with what `change` makes of each part.
    #[must_use]
    pub fn map(self, change: impl FnMut(Part) -> Part) -> Self {
        Self { parts: self.parts.into_iter().map(change).collect(), ..self }
    }

    /// The same with textual inversions, which prompts may name.
    pub fn embeddings(self, embeddings: Vec<Embedding>) -> Self {
        Self { embeddings, ..self }
    }

    /// Textual inversions that come and go while the model is in use, which prompts may name beside the others.
    pub fn lent_embeddings(&self) -> LentEmbeddings {
        self.lent.clone()
    }

    /// Takes the textual inversions out.
    pub fn take_embeddings(&mut self) -> Vec<Embedding> {
        std::mem::take(&mut self.embeddings)
    }

    /// What the `scheduler_config.json` of the model's folder says.
    pub fn scheduler_settings(&self) -> &Settings {
        &self.scheduler
    }

    /// What the `model_index.json` of the model's folder says of the pipeline.
    pub fn pipeline_settings(&self) -> &Settings {
        &self.pipeline
    }

    /// The text of the YAML file beside the model's file.
    pub fn yaml_text(&self) -> Option<&str> {
        self.yaml.as_deref()
    }

    /// What infotexts call the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part of a role, where there is one.
    pub fn part(&self, key: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.key == key)
    }

    /// Takes the part of a role out, where there is one.
    pub fn find(&mut self, key: &str) -> Option<Part> {
        let at = self.parts.iter().position(|part| part.key == key)?;
        Some(self.parts.remove(at))
    }

    /// Takes the part of a role out.
    ///
    /// # Errors
    /// [`Error::NoPart`].
    pub fn take(&mut self, key: &str) -> Result<Part, Error> {
        self.find(key).ok_or_else(|| Error::NoPart { key: key.to_owned() })
    }
}

/// How a model is loaded: where its layers are, and which parts are unpacked.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// The number format that products are computed in.
    pub compute: Compute,
    /// What becomes of the parts that may be loaded either way, by their keys; those that are not here stay in their files.
    pub unpacked: BTreeMap<String, Residency>,
}

impl Placement {
    /// What becomes of a part that may be loaded either way.
    pub fn residency(&self, part: &Part) -> Residency {
        self.unpacked.get(part.key()).copied().unwrap_or(Residency::Mapped)
    }

    /// Whether what is loaded so does where it would be loaded as `wanted` says: it is there in the same way, with no more of a part
    /// unpacked than there would be room for.
    pub fn serves(&self, wanted: &Self) -> bool {
        let is_within = |(key, residency): (&String, &Residency)| match (residency, wanted.unpacked.get(key)) {
            (Residency::UpTo { bytes, .. }, Some(Residency::UpTo { bytes: room, .. })) => bytes <= room,
            (residency, wanted) => wanted == Some(residency),
        };
        let parts = self.unpacked.len() == wanted.unpacked.len() && self.unpacked.iter().all(is_within);
        parts && self.device == wanted.device && self.compute == wanted.compute
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::Memory;

    use super::*;

    #[test]
    fn parts_that_leave_f16_are_computed_in_bf16_instead_and_in_what_else_is_asked_for() {
        let part = Part::of("t5", "t5", Arc::new(Memory::of::<&str>([])), "");
        for compute in [Compute::F32, Compute::Tf32, Compute::Bf16, Compute::F16] {
            let placement = Placement { device: Device::flex(), compute, unpacked: BTreeMap::new() };
            let of = |part: &Part| part.load(&placement, Residency::Mapped, |w| Ok(w.compute())).unwrap();
            assert_eq!(of(&part), compute);
            let instead = if compute == Compute::F16 { Compute::Bf16 } else { compute };
            assert_eq!(of(&part.clone().leaving_f16()), instead);
        }
    }

    #[test]
    fn what_is_loaded_serves_where_it_is_there_as_wanted_and_takes_no_more_than_there_is_room() {
        let placed = |key: &str, residency| Placement {
            device: Device::flex(),
            compute: Compute::F32,
            unpacked: BTreeMap::from([(key.to_owned(), residency)]),
        };
        let all = [Residency::Unpacked, Residency::Mapped, Residency::UpTo { bytes: 5, of: 9 }];
        for (i, loaded) in all.into_iter().enumerate() {
            for (k, wanted) in all.into_iter().enumerate() {
                assert_eq!(placed("unet", loaded).serves(&placed("unet", wanted)), i == k, "{loaded:?} {wanted:?}");
            }
        }
        let up_to = |bytes| placed("unet", Residency::UpTo { bytes, of: 9 });
        assert!(up_to(4).serves(&up_to(5)) && !up_to(6).serves(&up_to(5)));
        assert!(!up_to(4).serves(&placed("other", Residency::UpTo { bytes: 5, of: 9 })));
        assert!(!up_to(4).serves(&Placement { compute: Compute::Bf16, ..up_to(4) }));
        assert!(!up_to(4).serves(&Placement { unpacked: BTreeMap::new(), ..up_to(4) }));
    }
}
