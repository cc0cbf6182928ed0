/// What a picture was made with, as far as its text says: what a request does not hold, and without which it is another picture.
///
/// Nothing here is looked for or refused when a text is read; who opens a model may compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The network that was sampled with.
    pub model: Ingredient,
    /// The autoencoder, where it was not the model's own.
    pub vae: Ingredient,
    /// The model that took over, where one did.
    pub refiner: Ingredient,
    /// Text encoders and autoencoders beside the model, by the names that Forge has for them.
    pub modules: Vec<String>,
    /// Adapters.
    pub loras: Vec<Ingredient>,
    /// Textual inversions.
    pub embeddings: Vec<Ingredient>,
    /// The program and its version, as it writes them.
    pub version: Option<String>,
}

/// A file that a picture was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingredient {
    /// What the program calls it, often its file's name.
    pub name: Option<String>,
    /// By what the file is known, mostly the first digits of its SHA-256.
    pub hash: Option<String>,
}

impl Ingredient {
    /// A file of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), hash: None }
    }

    /// Whether anything is said of it.
    pub fn is_said(&self) -> bool {
        self.name.is_some() || self.hash.is_some()
    }

    /// Whether this may be a file of that name, whose SHA-256 has these digits; `None` where nothing can be compared.
    ///
    /// The hash decides where both are known: of A1111's form are those of ten digits and more, as what it wrote in eight is no beginning
    /// of a file's SHA-256. Names are compared without folders, endings and case.
    pub fn is(&self, name: Option<&str>, sha256: Option<&str>) -> Option<bool> {
        /// The least digits that are the beginning of a SHA-256.
        const LEAST: usize = 10;
        let is_sha256 =
            |hash: &&String| (LEAST..=64).contains(&hash.len()) && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        if let (Some(said), Some(found)) = (self.hash.as_ref().filter(is_sha256), sha256) {
            return Some(found.get(..said.len()).is_some_and(|start| start.eq_ignore_ascii_case(said)));
        }
        Some(stem(self.name.as_deref()?) == stem(name?))
    }
}

/// A name without folders, the ending of a model's file, and case.
fn stem(name: &str) -> String {
    const ENDINGS: [&str; 7] = [".safetensors", ".sft", ".gguf", ".ckpt", ".pth", ".pt", ".bin"];
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name).trim().to_lowercase();
    let ending = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).map(str::len);
    file[..ending.unwrap_or(file.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_hash_and_else_by_its_name() {
        let of = |name: Option<&str>, hash: Option<&str>| Ingredient {
            name: name.map(str::to_owned),
            hash: hash.map(str::to_owned),
        };
        let (sha256, other) = ("ba7816bf8f01cfea", Some("0000000000000000"));
        assert_eq!(of(Some("x"), Some("BA7816BF8F")).is(Some("y"), Some(sha256)), Some(true));
        assert_eq!(of(Some("x"), Some("ba7816bf8f")).is(Some("x"), other), Some(false));
        // eight digits are no SHA-256, nor is a hash of another kind
        for hash in ["7460a6fa", "blake3:0123456789abcdef"] {
            assert_eq!(of(Some("x"), Some(hash)).is(Some("x"), other), Some(true), "{hash}");
            assert_eq!(of(None, Some(hash)).is(Some("x"), other), None, "{hash}");
        }
        assert_eq!(of(Some("Sub\\V1-5.safetensors"), None).is(Some("v1-5"), None), Some(true));
        assert_eq!(of(Some("flux/dev.gguf"), None).is(Some("schnell"), None), Some(false));
        assert_eq!(Ingredient::default().is(Some("x"), other), None);
    }
}
