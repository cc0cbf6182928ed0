//! The texts of one picture by their keys, unpacked when they are asked for.

use std::collections::BTreeMap;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::{MAX_TEXT, charset, stored::Stored};

/// The keys that are looked for, in lower case. Others are passed over, so that a file can't fill the memory with them.
const KEYS: [&str; 28] = [
    "parameters",
    "prompt",
    "workflow",
    "comment",
    "usercomment",
    "xpcomment",
    "description",
    "title",
    "invokeai_metadata",
    "sd-metadata",
    "dream",
    "negative_prompt",
    "negative prompt",
    "seed",
    "sampler_name",
    "sampler",
    "num_inference_steps",
    "steps",
    "guidance_scale",
    "guidance scale",
    "width",
    "height",
    "use_stable_diffusion_model",
    "stable diffusion model",
    "clip_skip",
    "clip skip",
    "use_vae_model",
    "vae model",
];

/// The texts of a picture: of each key the first that is not empty.
#[derive(Default)]
pub(super) struct Texts(BTreeMap<&'static str, Stored>);

/// Why a text can't be had.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    TooLong,
    /// A compressed text that does not unpack, at this place of the file.
    Packed(u64),
    /// An encoding that is not read, by name.
    Charset(&'static str),
}

impl Texts {
    /// Keeps a text, if it is one that is looked for and the first of its key but for empty ones.
    pub(super) fn add(&mut self, key: &str, text: impl FnOnce() -> Stored) {
        let key = key.trim().to_lowercase();
        if let Some(known) = KEYS.iter().find(|known| **known == key) {
            let has_one = self.0.get(known).is_some_and(|stored| match stored {
                Stored::Text(text) => !text.trim().is_empty(),
                Stored::Bytes(bytes) | Stored::Packed(bytes, _) => !bytes.is_empty(),
                Stored::TooLong | Stored::Charset(_) => true,
            });
            if !has_one {
                self.0.insert(known, text());
            }
        }
    }

    /// Keeps what another place of the same picture has.
    pub(super) fn add_all(&mut self, texts: impl IntoIterator<Item = (String, Stored)>) {
        texts.into_iter().for_each(|(key, text)| self.add(&key, || text));
    }

    /// The text of a key, which is not there afterwards if it had to be unpacked in vain.
    pub(super) fn get(&mut self, key: &str) -> Result<Option<String>, Fault> {
        let text = match self.0.get(key) {
            None => return Ok(None),
            Some(Stored::Text(text)) => text.clone(),
            Some(Stored::Bytes(bytes)) => charset::guessed(bytes),
            Some(Stored::Packed(bytes, at)) => {
                let unpacked = decompress_to_vec_zlib_with_limit(bytes, MAX_TEXT).map_err(|e| match e.status {
                    TINFLStatus::HasMoreOutput => Fault::TooLong,
                    _ => Fault::Packed(*at),
                })?;
                charset::guessed(&unpacked)
            }
            Some(Stored::TooLong) => return Err(Fault::TooLong),
            Some(Stored::Charset(name)) => return Err(Fault::Charset(name)),
        };
        // UTF-8 of Latin-1 may be twice as long.
        if text.len() > 2 * MAX_TEXT { Err(Fault::TooLong) } else { Ok(Some(text)) }
    }
}
