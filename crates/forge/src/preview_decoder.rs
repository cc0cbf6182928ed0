//! The tiny decoder that previews are made by.

use std::{path::Path, sync::Arc};

use core_tensor::{Compute, Device, Format, Residency, WeightSource, Weights};
use diffusion_engine::{Card, Job, TinyAutoencoder, TinyNames};

use crate::{Error, Result, model_files::open_file};

/// What previews are decoded by.
pub(crate) struct PreviewDecoder {
    pub(crate) decoder: Arc<TinyAutoencoder>,
    /// Bytes of its weights.
    pub(crate) weights: u64,
}

/// Loads a tiny autoencoder's decoder for the latents of a model.
pub(crate) fn preview_decoder(path: &Path, card: &Card, device: &Device, compute: Compute) -> Result<PreviewDecoder> {
    let in_file = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let expected = format!("a tiny decoder (TAESD) of latents with {} channels", card.channels);
    let other = |found: String| in_file(Error::WrongFile { expected: expected.clone(), found });
    let names = TinyNames::over(open_file(path).map_err(in_file)?);
    if !names.has_decoder() {
        return Err(other("something else".to_owned()));
    }
    let values = names.manifest().iter().filter(|(name, _)| name.starts_with("decoder."));
    // Each as f32 at most.
    let size = values.map(|(_, form)| Format::F32.size_of(form.shape).unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
    let weights = Weights::of(&names, device, Residency::Unpacked).computed_in(compute);
    let decoder = TinyAutoencoder::load(&weights).map_err(|error| in_file(error.into()))?;
    match decoder.dimensions().channels() {
        channels if channels == card.channels => Ok(PreviewDecoder { decoder: Arc::new(decoder), weights: size }),
        channels => Err(other(format!("a tiny decoder of latents with {channels} channels"))),
    }
}

/// What decoding the largest picture of a job takes at most.
pub(crate) fn decoding_bytes(decoder: &TinyAutoencoder, card: &Card, job: &Job) -> u64 {
    let bytes = job.passes().iter().map(|pass| {
        let [_, height, width] = card.latent_shape(pass.size);
        decoder.dimensions().decoding_bytes([height, width])
    });
    bytes.max().unwrap_or(0)
}
