//! What a model file is known by: its SHA-256, computed once and kept in a file of such.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, Metadata},
    io::Read,
    path::Path,
    time::UNIX_EPOCH,
};

use diffusion_engine::{Cancel, Error as RunError, sweep, write_whole};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The SHA-256 of a model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHash([u8; 32]);

impl ModelHash {
    /// The first ten digits, as A1111 writes them into pictures.
    pub fn short(&self) -> String {
        format!("{self:.10}")
    }

    fn parsed(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let pairs = digits.as_bytes().as_chunks::<2>().0;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// All digits, or as many as the precision says.
impl fmt::Display for ModelHash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&digits)
    }
}

/// Finds a file's hash in `cache`, or computes it and adds it there.
///
/// A hash is taken from the cache where path, size and time of the last change are those of the file. A cache that is missing, damaged or
/// can't be written is no error: the hash is computed then.
///
/// # Errors
/// [`Error::Read`] where the file can't be read, and that the run is cancelled where `cancel` is asked meanwhile.
pub fn model_hash(file: &Path, cache: Option<&Path>, cancel: &Cancel) -> Result<ModelHash> {
    let read = |source| Error::Read { path: file.to_owned(), source };
    let state = State::of(&file.metadata().map_err(read)?);
    let name = file.canonicalize().map_err(read)?.to_str().map(str::to_owned);
    let (Some(cache), Some(name), Some(state)) = (cache, name, state) else {
        return digest(File::open(file).map_err(read)?, file, cancel).map(ModelHash);
    };
    if let Some(known) = Hashes::read(cache).0.get(&name).filter(|known| known.state == state)
        && let Some(hash) = ModelHash::parsed(&known.sha256)
    {
        return Ok(hash);
    }
    let hash = digest(File::open(file).map_err(read)?, file, cancel).map(ModelHash)?;
    // Of a file that was changed meanwhile nothing is known.
    if file.metadata().is_ok_and(|now| State::of(&now).as_ref() == Some(&state)) {
        // Read again, as others may have written meanwhile.
        let hashes = Hashes::read(cache).with(name, Known { state, sha256: hash.to_string() });
        // What can't be kept is computed again. A link may lead to anything, and is left alone.
        if !cache.is_symlink() {
            if let Some(folder) = cache.parent() {
                sweep(folder);
            }
            let _ = write_whole(cache, |out| Ok(serde_json::to_writer_pretty(out, &hashes)?));
        }
    }
    Ok(hash)
}

/// The SHA-256 of what is left of a file, which is called `path`, unless `cancel` is asked meanwhile.
pub(crate) fn digest(mut file: File, path: &Path, cancel: &Cancel) -> Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        if cancel.is_asked() {
            return Err(RunError::Cancelled.into());
        }
        match file.read(&mut buffer).map_err(|source| Error::Read { path: path.to_owned(), source })? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Hashes by their files' paths.
#[derive(Default, Serialize, Deserialize)]
struct Hashes(BTreeMap<String, Known>);

#[derive(Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    state: State,
    sha256: String,
}

/// By what a file is taken for the same.
#[derive(PartialEq, Serialize, Deserialize)]
struct State {
    bytes: u64,
    /// The time of the last change, in nanoseconds since 1970.
    modified: u64,
}

impl State {
    fn of(file: &Metadata) -> Option<Self> {
        let modified = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos().try_into().ok()?;
        Some(Self { bytes: file.len(), modified })
    }
}

impl Hashes {
    /// The most that are kept, and the most bytes that they take.
    const MOST: usize = 1000;
    const LONGEST: u64 = 8 << 20;

    /// Those of a cache; none where it is not what was written there.
    fn read(cache: &Path) -> Self {
        if !cache.is_file() {
            return Self::default();
        }
        let mut text = String::new();
        let read = File::open(cache).and_then(|file| file.take(Self::LONGEST).read_to_string(&mut text));
        read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// One more; where there are too many, those of files that are gone make room.
    fn with(mut self, name: String, known: Known) -> Self {
        if self.0.len() >= Self::MOST {
            self.0.retain(|name, _| Path::new(name).is_file());
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(name, known);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Of `abc` (FIPS 180-4, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_known_by_its_sha_256_and_in_short_by_ten_digits() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.safetensors");
        fs::write(&file, "abc").unwrap();
        let hash = model_hash(&file, None, &Cancel::default()).unwrap();
        assert_eq!((hash.to_string().as_str(), hash.short().as_str()), (ABC, "ba7816bf8f"));
        assert!(matches!(model_hash(&folder.path().join("n"), None, &Cancel::default()), Err(Error::Read { .. })));
    }

    #[test]
    fn a_hash_is_computed_once_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let [file, cache] = ["m.safetensors", "cache/hashes.json"].map(|name| folder.path().join(name));
        fs::write(&file, "abc").unwrap();
        assert_eq!(model_hash(&file, Some(&cache), &Cancel::default()).unwrap().to_string(), ABC);
        // What the cache says is believed.
        let other = "0".repeat(64);
        fs::write(&cache, fs::read_to_string(&cache).unwrap().replace(ABC, &other)).unwrap();
        assert_eq!(model_hash(&file, Some(&cache), &Cancel::default()).unwrap().to_string(), other);
        fs::write(&file, "abcd").unwrap();
        let changed = model_hash(&file, Some(&cache), &Cancel::default()).unwrap();
        assert_ne!(changed.to_string(), other);
        assert_eq!(model_hash(&file, None, &Cancel::default()).unwrap(), changed);
    }

    #[test]
    fn a_cache_that_is_damaged_or_has_no_place_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let [file, cache] = ["m.safetensors", "hashes.json"].map(|name| folder.path().join(name));
        fs::write(&file, "abc").unwrap();
        model_hash(&file, Some(&cache), &Cancel::default()).unwrap();
        let whole = fs::read_to_string(&cache).unwrap();
        let short = whole.replace(ABC, &ABC[1..]);
        let odd = whole.replace(ABC, &"é".repeat(32));
        for damaged in [&whole[..whole.len() / 2], "[]", "{\"a\":1}", "\0", "", &short, &odd] {
            fs::write(&cache, damaged).unwrap();
            assert_eq!(model_hash(&file, Some(&cache), &Cancel::default()).unwrap().to_string(), ABC, "{damaged}");
            assert_eq!(fs::read_to_string(&cache).unwrap(), whole, "{damaged}");
        }
        assert_eq!(model_hash(&file, Some(folder.path()), &Cancel::default()).unwrap().to_string(), ABC);
        assert_eq!(model_hash(&file, Some(&file.join("hashes.json")), &Cancel::default()).unwrap().to_string(), ABC);
    }

    #[test]
    fn nothing_is_written_where_a_cache_is_a_link_and_nothing_hashed_that_nobody_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let [file, cache] = ["m.safetensors", "hashes.json"].map(|name| folder.path().join(name));
        fs::write(&file, "abc").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&file, &cache).unwrap();
            assert_eq!(model_hash(&file, Some(&cache), &Cancel::default()).unwrap().to_string(), ABC);
            assert_eq!(fs::read(&file).unwrap(), b"abc");
        }
        let cancel = Cancel::default();
        cancel.ask();
        assert!(matches!(model_hash(&file, None, &cancel), Err(Error::Run(RunError::Cancelled))));
    }

    #[test]
    fn a_cache_does_not_grow_for_ever() {
        let known = || Known { state: State { bytes: 1, modified: 1 }, sha256: ABC.into() };
        let full = (0..2 * Hashes::MOST).fold(Hashes::default(), |all, i| all.with(format!("/gone/{i}"), known()));
        assert!(full.0.len() <= Hashes::MOST);
    }
}
