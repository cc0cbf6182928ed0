//! Everything that a run went through, for comparing engines.

use std::path::Path;

use core_tensor::{
    Latent, Tensor, on_host,
    safetensors::{Values, write},
};
use diffusion_engine::{Encoded, write_whole};

use crate::{Result, Run};

/// Writes everything that a finished run went through as one safetensors file, for comparing engines: `clip.ids`, `t5.ids`,
/// `vec`, `txt` (with `negative.` before those of a negative prompt), `noise`, `sigmas`, the latents after each step and
/// `image`, -1 to 1.
///
/// # Errors
/// Those of [`write_whole`], of decoding and of a device that can't say what it computed.
pub fn dump(run: &mut Run, latents: &[Latent], path: &Path) -> Result<()> {
    let prompts = ["", "negative."].into_iter().zip(run.prompts());
    let prompts = prompts.map(|(prefix, encoded)| prompt(prefix, encoded)).collect::<Result<Vec<_>>>()?;
    let mut tensors = prompts.concat();
    tensors.push(entry("noise", &run.noise().0)?);
    tensors.push(("sigmas".into(), vec![run.sigmas().len()], Values::F32(run.sigmas().to_vec())));
    for (i, latent) in latents.iter().enumerate() {
        tensors.push(entry(&format!("latent.{i:03}"), &latent.0)?);
    }
    tensors.push(entry("image", &run.pixels()?)?);
    Ok(write_whole(path, |out| write(out, &tensors))?)
}

/// Name, shape and values of a tensor.
type Entry = (String, Vec<usize>, Values);

fn prompt(prefix: &str, encoded: &Encoded) -> Result<Vec<Entry>> {
    let ids = |(encoder, ids): &(&str, Vec<usize>)| {
        let values = ids.iter().map(|&id| id as i64).collect();
        (format!("{prefix}{encoder}.ids"), vec![1, ids.len()], Values::I64(values))
    };
    let ids = encoded.ids.iter().map(ids).map(Ok);
    let pooled = encoded.pooled.iter().map(|vec| entry(&format!("{prefix}vec"), vec));
    let streams = encoded.streams.iter().map(|stream| entry(&format!("{prefix}txt"), &stream.tokens));
    ids.chain(pooled).chain(streams).collect()
}

fn entry<const D: usize>(name: &str, tensor: &Tensor<D>) -> Result<Entry> {
    Ok((name.to_owned(), tensor.dims().to_vec(), Values::F32(on_host(tensor)?)))
}
