//! A file of an adapter, by the modules that it changes.

use std::{collections::BTreeMap, path::Path};

use core_tensor::{Stored, WeightSource};
use diffusion_engine::Embedding;
use serde::de::IgnoredAny;

use crate::{
    Algorithm, ConfigPlace, Dialect, Error,
    dialect::method_of,
    leaf::{Leaf, parsed},
    misfit::Misfit,
    scale::Scale,
    scaling::{PEFTS, Scaling},
    tensors::Tensors,
};

/// An adapter's tensors, by the modules that they change.
///
/// Nothing of it is computed yet and nothing is known of a model: [`LoraFile::fitted`](crate::LoraFile::fitted) does both.
#[derive(Clone, Debug)]
pub struct LoraFile {
    pub(crate) label: String,
    pub(crate) modules: BTreeMap<String, Tensors>,
    /// Tensors that belong to no module.
    pub(crate) unknown: Vec<String>,
    dialect: Option<Dialect>,
    /// Vectors of words that came with it, by the words.
    words: BTreeMap<String, Vec<(String, Stored)>>,
    scaling: Scaling,
}

/// The most modules of a file; the largest known has four thousand.
const MOST_MODULES: usize = 1 << 16;

impl LoraFile {
    /// Reads a file's tensors.
    ///
    /// # Errors
    /// [`Error::NotALora`] for one without any of an adapter, [`Error::NotRead`] for one of PEFT's other methods, [`Error::TooMany`], or a
    /// tensor that can't be read.
    pub fn read(source: &dyn WeightSource) -> Result<Self, Error> {
        let label = source.label().to_owned();
        let (mut modules, mut unknown) = (BTreeMap::<String, Tensors>::new(), Vec::new());
        let mut words = BTreeMap::<String, Vec<(String, Stored)>>::new();
        for name in source.manifest().names() {
            if let Some((word, leaf)) = word(name) {
                words.entry(word.to_owned()).or_default().push((leaf.to_owned(), source.read(name)?));
                continue;
            }
            let Some((module, leaf)) = parsed(name) else {
                unknown.push(name.to_owned());
                continue;
            };
            if modules.len() >= MOST_MODULES {
                return Err(Error::TooMany { label, most: MOST_MODULES });
            }
            let twice = modules.entry(module).or_default().put(leaf, source.read(name)?);
            unknown.extend(twice.map(|_| name.to_owned()));
        }
        let dialect = Dialect::of(source.manifest().names());
        if dialect.is_none() || modules.is_empty() {
            let foreign = source.manifest().names().find_map(|name| Some((name.to_owned(), method_of(name)?)));
            return Err(match foreign {
                Some((tensor, method)) => Error::NotRead { label, method, tensor },
                None => Error::NotALora { label },
            });
        }
        Ok(Self { label, modules, unknown, dialect, words, scaling: Scaling::default() })
    }

    /// The same with what a PEFT config, an `adapter_config.json`, says of its scales. An `alpha` among the tensors goes before it, and so
    /// does a config that was given before.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::OtherMethod`] and [`Error::Pattern`].
    pub fn configured(self, path: &Path, json: &str) -> Result<Self, Error> {
        self.scaled(&ConfigPlace::File(path.to_owned()), json)
    }

    /// The same with `lora_adapter_metadata` of its metadata, which says nothing where it is `null` or no JSON: metadata may be anything,
    /// and Python writes a `NaN` too, which JSON has not.
    ///
    /// # Errors
    /// As [`LoraFile::configured`].
    pub fn configured_by_metadata(self, json: &str) -> Result<Self, Error> {
        if json.trim() == "null" || serde_json::from_str::<IgnoredAny>(json).is_err() {
            return Ok(self);
        }
        let place = ConfigPlace::Metadata(self.label.clone());
        self.scaled(&place, json)
    }

    fn scaled(mut self, place: &ConfigPlace, json: &str) -> Result<Self, Error> {
        // Whole matrices of LoKr alone have no rank among the tensors.
        let takes_rank =
            |tensors: &Tensors| tensors.rank().is_none() && scaled_algorithm(tensors) == Some(Algorithm::Lokr);
        let scaling = Scaling::of(place, json, self.modules.values().any(takes_rank))?;
        self.scaling = self.scaling.or(scaling);
        Ok(self)
    }

    /// Whether all of its modules have the names that PEFT's own files give them.
    pub fn is_pefts(&self) -> bool {
        self.modules.keys().all(|name| name.starts_with(PEFTS))
    }

    /// The same with a PEFT config that may be another file's: it counts if it can be read and is about changes of these algorithms and
    /// ranks.
    #[must_use]
    pub fn configured_if_it_fits(mut self, path: &Path, json: &str) -> Self {
        let Ok(scaling) = Scaling::of(&ConfigPlace::File(path.to_owned()), json, true) else { return self };
        let fits = |(module, tensors): (&String, &Tensors)| {
            scaled_algorithm(tensors).is_none_or(|of| scaling.fits(module, of, tensors.rank()))
        };
        if self.modules.iter().all(fits) {
            self.scaling = self.scaling.or(scaling);
        }
        self
    }

    /// How to call it in a message.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whose names its tensors have.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// How many modules it changes.
    pub fn modules(&self) -> usize {
        self.modules.len()
    }

    /// The algorithms of its changes, each once; `true` where one of them has magnitudes of its own (DoRA).
    pub fn algorithms(&self) -> Vec<(Algorithm, bool)> {
        let of = |tensors: &Tensors| {
            Some((Algorithm::of(tensors)?, tensors.has(Leaf::DoraScale) || tensors.has(Leaf::Magnitude)))
        };
        let mut algorithms: Vec<_> = self.modules.values().filter_map(of).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }

    /// The ranks of its changes, from the lowest, each once.
    pub fn ranks(&self) -> Vec<usize> {
        let mut ranks: Vec<_> = self.modules.values().filter_map(Tensors::rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// The models that it was made for, as its modules' names and widths tell; `None` where they don't.
    pub fn made_for(&self) -> Option<&'static str> {
        let has = |part: &str| self.modules.keys().any(|name| name.contains(part));
        if ["double_blocks", "single_blocks", "single_transformer_blocks"].into_iter().any(has) {
            return Some(if self.takes_a_picture() { "Flux with a control picture" } else { "Flux" });
        }
        // What a prompt's vectors meet says how wide they are.
        let met = ["attn2_to_k", "attn2.to_k", "attn2.processor.to_k_lora"];
        let widths = self.modules.iter().filter(|(name, _)| met.iter().any(|end| name.ends_with(end)));
        let width = widths.filter_map(|(_, tensors)| tensors.get(Leaf::Down)?.shape().get(1).copied()).next();
        match width {
            Some(768) => Some("Stable Diffusion 1"),
            Some(1024) => Some("Stable Diffusion 2"),
            Some(2048) => Some("Stable Diffusion XL"),
            Some(1280) => Some("the refiner of Stable Diffusion XL"),
            // Numbered modules are those of Stable Diffusion 1 or 2.
            None if has("unet:") => Some("Stable Diffusion"),
            Some(_) | None => None,
        }
    }

    /// Whether it widens Flux's input for a control picture beside the latent, as BFL's Canny and Depth do.
    fn takes_a_picture(&self) -> bool {
        const LATENT: usize = 64; // of Flux: 16 channels of 2 by 2
        let is_input = |name: &str| ["img_in", "x_embedder"].iter().any(|input| name.ends_with(input));
        let width = |tensors: &Tensors| tensors.get(Leaf::Down).and_then(|down| down.shape().get(1).copied());
        self.modules.iter().any(|(name, tensors)| is_input(name) && width(tensors) > Some(LATENT))
    }

    /// Words that it brings vectors for, as textual inversions do.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.keys().map(String::as_str)
    }

    /// These as textual inversions.
    ///
    /// # Errors
    /// [`Error::Words`] for what is none.
    pub fn embeddings(&self) -> Result<Vec<Embedding>, Error> {
        let of = |(word, vectors): (&String, &Vec<_>)| Embedding::bundled(word, &self.label, vectors.iter().cloned());
        let embeddings: Result<_, _> = self.words.iter().map(of).collect();
        embeddings.map_err(|source| Error::Words { label: self.label.clone(), source: Box::new(source) })
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let of = |tensors: &Tensors| {
            tensors.leaves().filter_map(|leaf| tensors.get(leaf)).map(Stored::byte_len).sum::<usize>()
        };
        self.modules.values().map(of).sum::<usize>() as u64
    }

    /// The scale of a module's change: by its own alpha, or as is said beside the tensors.
    pub(crate) fn scale(&self, module: &str, tensors: &Tensors) -> Result<Scale, Misfit> {
        if let Some(alpha) = tensors.number(Leaf::Alpha)? {
            return Ok(Scale::Alpha(alpha));
        }
        let said = Algorithm::of(tensors).and_then(|of| self.scaling.scale(module, of, tensors.rank()));
        Ok(said.map_or(Scale::Unsaid, Scale::Config))
    }
}

/// The algorithm of a module's change where a config can say its scale: where PEFT has the algorithm, and the tensors don't say it.
fn scaled_algorithm(tensors: &Tensors) -> Option<Algorithm> {
    let of = Algorithm::of(tensors).filter(|_| !tensors.has(Leaf::Alpha))?;
    matches!(of, Algorithm::Lora | Algorithm::Loha | Algorithm::Lokr).then_some(of)
}

/// The word that a tensor is the vector of, and what stands behind it: cloneofsimo's `<s1>`, or A1111's `bundle_emb.NAME.string_to_param.*`.
fn word(name: &str) -> Option<(&str, &str)> {
    if name.starts_with('<') && name.ends_with('>') {
        return Some((name, "emb_params"));
    }
    name.strip_prefix("bundle_emb.")?.split_once('.')
}
