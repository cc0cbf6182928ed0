//! What leaves and enters beside pictures: the names of files, dumps of a run, and given noise.

use std::path::{Path, PathBuf};

use core_tensor::{
    Latent, Tensor, WeightSource,
    safetensors::{Safetensors, Values, write},
    tensor, values,
};
use diffusion_engine::{Conditioning, Run, write_whole};

use crate::{Error, Result};

/// A name for pictures, in which `{seed}` and `{index}` are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern that gives each picture of a batch a name of its own, in a folder that can be written; `seed` is the first's.
    ///
    /// # Errors
    /// [`Error::Value`] for names that would collide or fill nothing in, [`Error::Write`] for a place that can't be written.
    pub fn new(pattern: &Path, seed: u64, batch: usize) -> Result<Self> {
        let wrong = |expected: &str| {
            let found = format!("`{}`", pattern.display());
            Err(Error::Value { key: "image.output", expected: expected.into(), found })
        };
        let Some(text) = pattern.to_str() else { return wrong("a name in UTF-8") };
        if batch > 1 && !text.contains("{index}") && !text.contains("{seed}") {
            return wrong("`{index}` or `{seed}` in it, as there are several pictures");
        }
        if text.replace("{seed}", "").replace("{index}", "").contains(['{', '}']) {
            return wrong("no braces but `{seed}` and `{index}`");
        }
        if !text.to_lowercase().ends_with(".png") {
            return wrong("a name that ends in `.png`");
        }
        let pattern = Self(text.to_owned());
        for index in 0..batch {
            let path = pattern.path(seed.wrapping_add(index as u64), index);
            diffusion_engine::check_writable(&path).map_err(|source| Error::Write { path, source })?;
        }
        Ok(pattern)
    }

    /// The name of one picture.
    pub fn path(&self, seed: u64, index: usize) -> PathBuf {
        self.0.replace("{seed}", &seed.to_string()).replace("{index}", &index.to_string()).into()
    }
}

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
/// [`Error::Write`], and those of decoding.
pub fn dump(run: &Run, latents: &[Latent], path: &Path) -> Result<()> {
    let mut tensors = prompt("", run.positive());
    tensors.extend(run.negative().into_iter().flat_map(|negative| prompt("negative.", negative)));
    tensors.push(entry("noise", &run.noise().0));
    tensors.push(("sigmas".into(), vec![run.sigmas().len()], Values::F32(run.sigmas().to_vec())));
    tensors.extend(latents.iter().enumerate().map(|(i, latent)| entry(&format!("latent.{i:03}"), &latent.0)));
    tensors.push(entry("image", &run.pixels()?));
    write_whole(path, |out| write(out, &tensors)).map_err(|source| Error::Write { path: path.to_owned(), source })
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
