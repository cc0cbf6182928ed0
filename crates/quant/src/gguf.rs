//! Files in the format GGUF, of llama.cpp and its relatives: opened, checked, and mapped where the system can.
//!
//! Opening reads the metadata and the list of tensors, and checks every range of bytes against the shapes, against each other and
//! against the file's length, so that no read can leave the file. Nothing that a file claims is believed before there are bytes
//! for it: a count must have room in the rest of the file, and all arithmetic on its numbers is checked.
//!
//! Reference: `docs/gguf.md` of ggml, versions 2 and 3.

mod cursor;
mod fault;
mod metadata;
mod tensors;

use std::path::{Path, PathBuf};

use core_tensor::{Manifest, Mapped, Stored, WeightSource};

pub use self::metadata::{List, Value};
pub(crate) use self::tensors::type_number;
use self::{cursor::Cursor, fault::Placed, metadata::Metadata};
use crate::{Error, GgufFault};

/// The most dimensions that a tensor may have; those of diffusion models have at most five.
const MOST_DIMENSIONS: u32 = 8;

/// An open GGUF file.
///
/// Promises that every tensor lies inside the file, that none overlaps another, and that each is whole blocks of its format: its
/// rows are too, unless the metadata gives it back a shape that it had before it was laid in such rows.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    label: String,
    bytes: Mapped,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    manifest: Manifest,
}

impl Gguf {
    /// Opens and checks a file. Takes less than four times the size of its header and 16 MiB of memory, whatever it claims.
    ///
    /// # Errors
    /// [`Error::Gguf`] for every way in which the bytes can contradict the format or themselves, and why a file can't be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, Mapped::open(path)?)
    }

    /// Checks a file's bytes; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(path, bytes.into())
    }

    fn parse(path: &Path, bytes: Mapped) -> Result<Self, Error> {
        match Contents::read(&bytes) {
            Ok(Contents { version, alignment, metadata, manifest }) => {
                let (path, label) = (path.to_owned(), format!("`{}`", path.display()));
                Ok(Self { path, label, bytes, version, alignment, metadata, manifest })
            }
            Err(Placed { at, fault }) => Err(Error::Gguf { path: path.to_owned(), at, fault: fault.into() }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the system have the memory in which the file was read; what is needed of it is read again.
    pub fn give_back(&self) {
        self.bytes.give_back(0..self.bytes.len());
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The bytes that each tensor begins at a multiple of.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The keys of the metadata, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys(&self.bytes)
    }

    /// The metadata of a key.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.metadata.get(&self.bytes, key)
    }

    /// What the file says the model's architecture is; files of stable-diffusion.cpp say nothing.
    pub fn architecture(&self) -> Option<&str> {
        match self.value("general.architecture") {
            Some(Value::Text(architecture)) => Some(architecture),
            _ => None,
        }
    }
}

/// What a file's bytes say.
struct Contents {
    version: u32,
    alignment: u64,
    metadata: Metadata,
    manifest: Manifest,
}

impl Contents {
    fn read(bytes: &[u8]) -> Result<Self, Placed> {
        let mut cursor = Cursor::over(bytes);
        let magic = cursor.array::<4>("the magic number")?;
        match &magic {
            b"GGUF" => {}
            b"FUGG" => return Err(GgufFault::BigEndian.at(0)),
            _ => return Err(GgufFault::Magic { found: magic }.at(0)),
        }
        let version = cursor.u32("the version")?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => return Err(GgufFault::BigEndian.at(4)),
            found => return Err(GgufFault::Version { found }.at(4)),
        }
        let tensors = cursor.count("tensors", tensors::LEAST)?;
        let entries = cursor.count("entries of metadata", metadata::LEAST)?;
        let metadata = Metadata::read(&mut cursor, entries)?;
        metadata.is_of_whole(bytes)?;
        let alignment = metadata.alignment(bytes)?;
        let manifest = tensors::read(cursor, tensors, alignment, &metadata)?;
        Ok(Self { version, alignment, metadata, manifest })
    }
}

impl WeightSource for Gguf {
    fn label(&self) -> &str {
        &self.label
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, core_tensor::Error> {
        let missing = || core_tensor::Error::Missing { name: name.to_owned(), source_name: self.label.clone() };
        let form = self.manifest.get(name).ok_or_else(missing)?;
        let [start, end] = self.manifest.range(name).ok_or_else(missing)?.map(|at| at as usize);
        Stored::within(form.format, form.shape.to_vec(), &self.bytes, start..end)
    }

    /// A text of the metadata.
    fn note(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            Some(Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Truth(_) | Value::List(_)) | None => {
                None
            }
        }
    }
}
