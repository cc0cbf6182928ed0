//! What leaves and enters beside pictures: dumps of a run, and given noise.

use std::path::Path;

use core_tensor::{
    Form, Format, Latent, Tensor, WeightSource,
    safetensors::{Values, write},
    tensor, values,
};
use diffusion_engine::{Encoded, Size, Txt2Img, write_whole};

use crate::{Error, Result, Run, model_files::open_file};

/// Reads the tensor `noise` of a safetensors file, `[batch, channels, height / 8, width / 8]`, for this request.
///
/// # Errors
/// A file that can't be read, or that has no such tensor of four dimensions in f32, f16 or bf16, or one of more values than
/// the request's noise can have; then none is read. Whether its shape fits the model, the run finds out.
pub fn noise_file(path: &Path, request: &Txt2Img) -> Result<Latent> {
    let wrong = |expected, found| {
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
    // A latent has fewer values than its picture has; Flux's a quarter of one for each pixel.
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

/// Writes everything that a finished run went through as one safetensors file, for comparing engines: `clip.ids`, `t5.ids`,
/// `vec`, `txt` (with `negative.` before those of a negative prompt), `noise`, `sigmas`, the latents after each step and
/// `image`, -1 to 1.
///
/// # Errors
/// Those of [`write_whole`] and of decoding.
pub fn dump(run: &mut Run, latents: &[Latent], path: &Path) -> Result<()> {
    let prompts = ["", "negative."].into_iter().zip(run.prompts());
    let mut tensors: Vec<_> = prompts.flat_map(|(prefix, encoded)| prompt(prefix, encoded)).collect();
    tensors.push(entry("noise", &run.noise().0));
    tensors.push(("sigmas".into(), vec![run.sigmas().len()], Values::F32(run.sigmas().to_vec())));
    tensors.extend(latents.iter().enumerate().map(|(i, latent)| entry(&format!("latent.{i:03}"), &latent.0)));
    tensors.push(entry("image", &run.pixels()?));
    Ok(write_whole(path, |out| write(out, &tensors))?)
}

fn prompt(prefix: &str, encoded: &Encoded) -> Vec<(String, Vec<usize>, Values)> {
    let ids = |(encoder, ids): &(&str, Vec<usize>)| {
        let values = ids.iter().map(|&id| id as i64).collect();
        (format!("{prefix}{encoder}.ids"), vec![1, ids.len()], Values::I64(values))
    };
    let mut tensors: Vec<_> = encoded.ids.iter().map(ids).collect();
    tensors.extend(encoded.pooled.iter().map(|vec| entry(&format!("{prefix}vec"), vec)));
    tensors.extend(encoded.streams.iter().map(|stream| entry(&format!("{prefix}txt"), &stream.tokens)));
    tensors
}

fn entry<const D: usize>(name: &str, tensor: &Tensor<D>) -> (String, Vec<usize>, Values) {
    (name.to_owned(), tensor.dims().to_vec(), Values::F32(values(tensor)))
}
