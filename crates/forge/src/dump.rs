//! Everything that a run went through, for comparing engines.

use std::path::Path;

use core_tensor::{
    Latent, Tensor,
    safetensors::{Values, write},
    values,
};
use diffusion_engine::{Encoded, write_whole};

use crate::{Result, Run};

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
