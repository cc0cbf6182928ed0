//! The encoder of a tiny autoencoder, which is published as a file beside that of its decoder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use core_tensor::{Branch, Error as TensorError, Manifest, Place, Stored, WeightSource};
use diffusion_engine::{Error as RunError, TinyDimensions, TinyNames, family::Part};

use crate::{Error, Result, model_files::open_file};

/// A part with the encoder that lies beside its file, where it is the decoder of a tiny autoencoder alone; of every other part itself.
///
/// # Errors
/// A file of the encoder's name that is no such encoder, or another one's.
pub(crate) fn with_encoder(part: Part, path: &Path, at: Place) -> Result<Part> {
    let Some(beside) = encoder_of(path) else { return Ok(part) };
    let is_alone = part.look(|w| Ok(TinyDimensions::are_of(w) && !TinyDimensions::of(w)?.has_encoder()))?;
    if !is_alone || !beside.is_file() {
        return Ok(part);
    }
    let in_file = |source: Error| Error::Load { path: beside.clone(), source: Box::new(source) };
    let encoder = TinyNames::over(open_file(&beside).map_err(in_file)?);
    if !encoder.has_encoder() {
        let expected = format!("the encoder of `{}`, beside which it lies", path.display());
        return Err(in_file(Error::WrongFile { expected, found: "something else".to_owned() }));
    }
    let part = part.adapted(|decoder| Arc::new(Halves::of(decoder, encoder)));
    let bytes = part.look(|w| {
        let w = w.laid_out(TinyDimensions::of(w)?.layout());
        match w.faults().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(w.bytes(at)),
        }
    });
    match bytes {
        Ok(bytes) => Ok(part.takes(bytes)),
        Err(RunError::InPart { source, .. }) => Err(in_file((*source).into())),
        Err(error) => Err(in_file(error.into())),
    }
}

/// Where the encoder lies of a decoder's file, whose names differ in that word.
pub(crate) fn encoder_of(path: &Path) -> Option<PathBuf> {
    const DECODER: &str = "decoder";
    let name = path.file_name()?.to_str()?;
    let at = name.rfind(DECODER)?;
    Some(path.with_file_name(format!("{}encoder{}", &name[..at], &name[at + DECODER.len()..])))
}

/// Two halves as one, each under its own names.
struct Halves<S> {
    decoder: Arc<dyn WeightSource>,
    encoder: S,
    manifest: Manifest,
}

impl<S: WeightSource> Halves<S> {
    fn of(decoder: Arc<dyn WeightSource>, encoder: S) -> Self {
        let both = [decoder.manifest(), encoder.manifest()].into_iter().flat_map(Manifest::iter);
        let manifest = both.map(|(name, form)| (name.to_owned(), form.format, form.shape.to_vec())).collect();
        Self { decoder, encoder, manifest }
    }

    fn with(&self, name: &str) -> &dyn WeightSource {
        if self.decoder.manifest().contains(name) { &*self.decoder } else { &self.encoder }
    }
}

impl<S: WeightSource> WeightSource for Halves<S> {
    fn label(&self) -> &str {
        self.decoder.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> std::result::Result<Stored, TensorError> {
        self.with(name).read(name)
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.decoder.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.with(name).branches(name)
    }
}
