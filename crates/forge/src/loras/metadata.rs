//! What a LoRA file says about itself, and what it is known by.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use diffusion_engine::Cancel;
use serde::{Deserialize, de::IgnoredAny};

use crate::{Error, Result, model_files::regular, model_hash::digest};

/// The texts that a safetensors file has beside its tensors, by their keys.
pub type Metadata = BTreeMap<String, String>;

/// The longest header that is read, as of any safetensors file.
const LONGEST: u64 = 32 << 20;

/// How many digits of its hash A1111 calls a LoRA by.
const DIGITS: usize = 12;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: Option<Metadata>,
    #[serde(flatten)]
    _tensors: BTreeMap<String, IgnoredAny>,
}

/// The metadata of a safetensors file; none of one that has none or is in another format.
///
/// # Errors
/// [`Error::Read`], and [`Error::NotRegular`] for what is no file.
pub fn metadata(path: &Path) -> Result<Metadata> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    regular(path)?;
    let mut file = File::open(path).map_err(read)?;
    let Some(length) = header(&mut file).map_err(read)? else { return Ok(Metadata::new()) };
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(read)?;
    Ok(serde_json::from_slice::<Header>(&text).ok().and_then(|header| header.metadata).unwrap_or_default())
}

/// What A1111 and Forge call a LoRA by in `Lora hashes`: the first digits of what its trainer wrote into it as `sshs_model_hash`, or of the
/// SHA-256 of all behind the header, which renaming its metadata does not change.
///
/// # Errors
/// [`Error::Read`], [`Error::NotRegular`], and that the run is cancelled where `cancel` is asked meanwhile.
pub fn lora_hash(path: &Path, metadata: &Metadata, cancel: &Cancel) -> Result<String> {
    let is_hash = |hash: &&String| hash.len() >= DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(hash) = metadata.get("sshs_model_hash").filter(is_hash) {
        return Ok(hash[..DIGITS].to_owned());
    }
    let read = |source| Error::Read { path: path.to_owned(), source };
    regular(path)?;
    let mut file = File::open(path).map_err(read)?;
    let start = header(&mut file).map_err(read)?.map_or(0, |length| length + 8);
    file.seek(SeekFrom::Start(start)).map_err(read)?;
    let digits: String = digest(file, path, cancel)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits[..DIGITS].to_owned())
}

/// The length of a safetensors file's header, behind which it leaves the file; `None` where it has none.
fn header(file: &mut File) -> std::io::Result<Option<u64>> {
    let mut start = Vec::new();
    file.by_ref().take(9).read_to_end(&mut start)?;
    let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    file.seek(SeekFrom::Start(8))?;
    Ok(length.filter(|&length| length <= LONGEST && start.get(8) == Some(&b'{')))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_lora_is_known_by_what_is_behind_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let written = |header: &str| {
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"abc"].concat();
            fs::write(&path, bytes).unwrap();
            let metadata = metadata(&path).unwrap();
            (lora_hash(&path, &metadata, &Cancel::default()).unwrap(), metadata.len())
        };
        // FIPS 180-4, appendix B.1.
        assert_eq!(written("{}"), ("ba7816bf8f01".into(), 0));
        assert_eq!(written(r#"{"__metadata__":{"ss_network_dim":"4"},"x":{"shape":[1]}}"#), ("ba7816bf8f01".into(), 1));
        let named = format!(r#"{{"__metadata__":{{"sshs_model_hash":"{}"}}}}"#, "0123456789abcdef".repeat(4));
        assert_eq!(written(&named), ("0123456789ab".into(), 1));
        let odd = r#"{"__metadata__":{"sshs_model_hash":"ééééééééé"}}"#;
        assert_eq!(written(odd).0, "ba7816bf8f01");
        fs::write(&path, "abc").unwrap();
        assert_eq!(lora_hash(&path, &metadata(&path).unwrap(), &Cancel::default()).unwrap(), "ba7816bf8f01");
    }
}
