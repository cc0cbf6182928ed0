//! Textual inversion (Gal et al. 2022): vectors that a text encoder is given in the place of a word's.

use std::sync::Arc;

use core_tensor::{Device, Manifest, Stored, Tensor, WeightSource, tensor};

use crate::Error;

/// A textual inversion: what stands in the place of its name, for each text encoder.
///
/// Has one vector at least, and of each encoder as many.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    name: String,
    count: usize,
    parts: Vec<Part>,
}

/// The vectors for one text encoder, `[count, width]`.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// `clip_l`, `clip_g`; `None` where the file says only how wide they are.
    encoder: Option<&'static str>,
    width: usize,
    values: Arc<Vec<f32>>,
}

/// How files call the text encoders that their vectors are for, and how the encoders are called here.
const ENCODERS: &[(&str, &str)] = &[
    ("clip_l", "clip_l"),
    ("clip_g", "clip_g"),
    ("text_encoders_0", "clip_l"), // as trainers of diffusers write
    ("text_encoders_1", "clip_g"),
];

/// How A1111 calls the vectors of a `.safetensors` file, and what stands before their name in a `.pt`.
const PARAMETERS: &str = "emb_params";
const BY_STRING: &str = "string_to_param.";

impl Embedding {
    /// Reads the vectors of a file: A1111's `emb_params` or `string_to_param.…`, a tensor for each of SDXL's text encoders, or a
    /// single tensor as diffusers writes it. `name` is what prompts call it, the file's name without its ending.
    ///
    /// # Errors
    /// [`Error::NotAnEmbedding`] for a file of other tensors or of several terms, [`Error::EmbeddingShape`] for a tensor that is not
    /// a list of vectors, or not as many as another's, [`Error::EmbeddingValues`] for one with a value that is not a number.
    pub fn read(name: impl Into<String>, source: &dyn WeightSource) -> Result<Self, Error> {
        let name = name.into();
        let parts = (tensors(source.manifest()).into_iter())
            .map(|(tensor, encoder)| Part::read(source, &name, tensor, encoder))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = parts.first() else {
            return Err(Error::NotAnEmbedding { name, source_name: source.label().to_owned() });
        };
        let count = first.count();
        if let Some(other) = parts.iter().find(|part| part.count() != count) {
            let (tensor, shape) = (other.encoder.unwrap_or_default().to_owned(), vec![other.count(), other.width]);
            return Err(Error::EmbeddingShape { name, tensor, shape });
        }
        Ok(Self { name, count, parts })
    }

    /// The vectors of a word that a file of other things brings, each by what stands behind the word: as in a file of its own, or nothing
    /// for a single one.
    ///
    /// # Errors
    /// As [`Embedding::read`]; messages call the file `label`.
    pub fn bundled(
        name: impl Into<String>,
        label: &str,
        vectors: impl IntoIterator<Item = (String, Stored)>,
    ) -> Result<Self, Error> {
        Self::read(name, &Bundle::of(label, vectors))
    }

    /// What prompts call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many tokens its vectors stand in the place of.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that its vectors take; clones share them.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| 4 * part.values.len() as u64).fold(0, u64::saturating_add)
    }

    /// The vectors for a text encoder of this name and width, `[count, width]`.
    ///
    /// # Errors
    /// [`Error::EmbeddingWidth`] where it has none.
    pub fn vectors(&self, encoder: &'static str, width: usize, device: &Device) -> Result<Tensor<2>, Error> {
        let of_encoder = |part: &&Part| part.encoder.is_none_or(|name| name == encoder) && part.width == width;
        let part = self.parts.iter().find(of_encoder).ok_or_else(|| Error::EmbeddingWidth {
            name: self.name.clone(),
            encoder,
            expected: width,
            found: self.parts.iter().map(|part| part.width).collect(),
        })?;
        Ok(tensor(part.values.to_vec(), [self.count, width], device))
    }
}

/// Tensors of a file, by other names.
struct Bundle {
    label: String,
    vectors: Vec<(String, Stored)>,
    manifest: Manifest,
}

impl Bundle {
    fn of(label: &str, vectors: impl IntoIterator<Item = (String, Stored)>) -> Self {
        let vectors: Vec<_> = vectors.into_iter().collect();
        let manifest = vectors.iter().map(|(name, stored)| (name, stored.format(), stored.shape().to_vec())).collect();
        Self { label: label.to_owned(), vectors, manifest }
    }
}

impl WeightSource for Bundle {
    fn label(&self) -> &str {
        &self.label
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, core_tensor::Error> {
        let missing = || core_tensor::Error::Missing { name: name.to_owned(), source_name: self.label.clone() };
        self.vectors.iter().find(|(of, _)| of == name).map(|(_, stored)| stored.clone()).ok_or_else(missing)
    }
}

/// The tensors of a file that are vectors, and the encoder that each is for; none where the file is another one.
fn tensors(manifest: &Manifest) -> Vec<(&str, Option<&'static str>)> {
    let of_encoder = |name: &str| ENCODERS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    let keyed: Vec<_> = manifest.names().filter_map(|name| Some((name, Some(of_encoder(name)?)))).collect();
    if !keyed.is_empty() {
        return keyed;
    }
    let named = |found: &dyn Fn(&str) -> bool| manifest.names().filter(|name| found(name)).collect::<Vec<_>>();
    let terms = [named(&|name| name == PARAMETERS), named(&|name| name.starts_with(BY_STRING)), named(&|_| true)];
    match terms.iter().find(|terms| !terms.is_empty()).map(Vec::as_slice) {
        Some(&[term]) => vec![(term, None)],
        Some(_) | None => Vec::new(),
    }
}

impl Part {
    fn read(source: &dyn WeightSource, name: &str, tensor: &str, encoder: Option<&'static str>) -> Result<Self, Error> {
        let stored = source.read(tensor)?;
        let width = match *stored.shape() {
            [width] if width > 0 => width,
            [count, width] if count > 0 && width > 0 => width,
            _ => {
                let (name, tensor, shape) = (name.to_owned(), tensor.to_owned(), stored.shape().to_vec());
                return Err(Error::EmbeddingShape { name, tensor, shape });
            }
        };
        let (found, label) = (stored.format(), source.label().to_owned());
        let format = || core_tensor::Error::Format { name: tensor.to_owned(), source_name: label, found };
        let values = stored.to_f32().ok_or_else(format)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::EmbeddingValues { name: name.to_owned(), tensor: tensor.to_owned() });
        }
        Ok(Self { encoder, width, values: Arc::new(values) })
    }

    fn count(&self) -> usize {
        self.values.len() / self.width
    }
}
