//! What leaves and enters beside pictures: dumps of a run, and given noise.

use std::path::Path;

use core_tensor::{
    Latent, Tensor, WeightSource,
    safetensors::{Safetensors, Values, write},
    tensor, values,
};
use diffusion_engine::{Conditioning, Run, write_whole};

use crate::{Error, Result};

/// Reads the tensor `noise` of a safetensors file, `[batch, channels, height / 8, width / 8]`.
///
/// # Errors
/// A file that can't be read, or that has no such tensor of four dimensions in f32, f16 or bf16.
pub fn noise_file(path: &Path) -> Result<Latent> {
    let load = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let file = Safetensors::open(path).map_err(|e| load(e.into()))?;
    let missing = || load(Error::WrongFile { expected: "a tensor `noise`", found: "a file without one".into() });
    let stored = file.read("noise").ok_or_else(missing)?;
    let shape = <[usize; 4]>::try_from(stored.shape());
    match (shape, stored.to_f32()) {
        (Ok(shape), Some(values)) if !values.is_empty() => {
            Ok(Latent(tensor(values, shape, &core_tensor::Device::flex())))
        }
        _ => Err(load(Error::WrongFile {
            expected: "`noise` as four-dimensional floats",
            found: format!("{:?} of {:?}", stored.shape(), stored.dtype()),
        })),
    }
}

/// Writes everything that a finished run went through as one safetensors file, for comparing engines: `clip.ids`, `t5.ids`,
/// `vec`, `txt` (with `negative.` before those of a negative prompt), `noise`, `sigmas`, the latents after each step and
/// `image`, -1 to 1.
///
/// # Errors
/// Those of [`write_whole`] and of decoding.
pub fn dump(run: &Run, latents: &[Latent], path: &Path) -> Result<()> {
    let mut tensors = prompt("", run.positive());
    tensors.extend(run.negative().into_iter().flat_map(|negative| prompt("negative.", negative)));
    tensors.push(entry("noise", &run.noise().0));
    tensors.push(("sigmas".into(), vec![run.sigmas().len()], Values::F32(run.sigmas().to_vec())));
    tensors.extend(latents.iter().enumerate().map(|(i, latent)| entry(&format!("latent.{i:03}"), &latent.0)));
    tensors.push(entry("image", &run.pixels()?));
    Ok(write_whole(path, |out| write(out, &tensors))?)
}

fn prompt(prefix: &str, conditioning: &Conditioning) -> Vec<(String, Vec<usize>, Values)> {
    let ids = |(encoder, ids): &(&str, Vec<usize>)| {
        let values = ids.iter().map(|&id| id as i64).collect();
        (format!("{prefix}{encoder}.ids"), vec![1, ids.len()], Values::I64(values))
    };
    let mut tensors: Vec<_> = conditioning.ids.iter().map(ids).collect();
    tensors.push(entry(&format!("{prefix}vec"), &conditioning.vec));
    tensors.push(entry(&format!("{prefix}txt"), &conditioning.txt));
    tensors
}

fn entry<const D: usize>(name: &str, tensor: &Tensor<D>) -> (String, Vec<usize>, Values) {
    (name.to_owned(), tensor.dims().to_vec(), Values::F32(values(tensor)))
}
