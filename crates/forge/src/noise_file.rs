//! Noise that is given in a file.

use std::path::Path;

use core_tensor::{Form, Format, Latent, WeightSource, tensor};
use diffusion_engine::{Size, Txt2Img};

use crate::{Error, Result, model_files::open_file};

/// Reads the tensor `noise` of a safetensors file, `[batch, channels, height / 8, width / 8]`, for this request.
///
/// # Errors
/// A file that can't be read, or that has no such tensor of four dimensions in f32, f16 or bf16, or one of more values than
/// the request's noise can have; then none is read. Whether its shape fits the model, the run finds out.
pub fn noise_file(path: &Path, request: &Txt2Img) -> Result<Latent> {
    let wrong = |expected: &str, found| {
        let expected = expected.to_owned();
        let source = Box::new(Error::WrongFile { expected, found });
        Err(Error::Load { path: path.to_owned(), source })
    };
    let file = open_file(path).map_err(|source| Error::Load { path: path.to_owned(), source: Box::new(source) })?;
    let Some(Form { format, shape: dims, .. }) = file.manifest().get("noise") else {
        return wrong("a tensor `noise`", "a file without one".into());
    };
    let found = format!("{dims:?} of {format}");
    let is_single = [Format::F32, Format::F16, Format::BF16].contains(&format);
    let Some(shape) = <[usize; 4]>::try_from(dims).ok().filter(|_| is_single) else {
        return wrong("`noise` as four-dimensional floats", found);
    };
    // A latent has fewer values than its picture has; most a quarter of one for each pixel or fewer.
    let pixels = {
        let Size { width, height } = request.pass.size;
        request.batch.saturating_mul(width).saturating_mul(height)
    };
    let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
    if values > pixels.saturating_mul(3) {
        return wrong("`noise` of no more values than the pictures have", found);
    }
    match file.read("noise").ok().and_then(|stored| stored.to_f32()) {
        Some(values) if !values.is_empty() => Ok(Latent(tensor(values, shape, &core_tensor::Device::flex()))),
        Some(_) | None => wrong("`noise` as four-dimensional floats", found),
    }
}
