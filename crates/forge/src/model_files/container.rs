//! One file: whether it is a regular file of tensors in a format that is read, and what it is where it is not.

use std::{
    fs::{File, Metadata},
    io::Read,
    path::{Path, PathBuf},
};

use core_tensor::{Error as TensorError, Manifest, Stored, WeightSource, pickle::TorchFile, safetensors::Safetensors};
use quant::{Container, Gguf, HEAD, Value};

use crate::{Error, Result};

/// An open file of tensors.
pub(crate) enum TensorFile {
    Safetensors(Safetensors),
    Torch(TorchFile),
    Gguf(Gguf),
}

impl TensorFile {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Torch(file) => file.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// Lets the system have the memory in which the file was read.
    pub(crate) fn give_back(&self) {
        match self {
            Self::Safetensors(file) => file.give_back(),
            Self::Torch(file) => file.give_back(),
            Self::Gguf(file) => file.give_back(),
        }
    }

    /// The pieces of a tokenizer that the file brings, as llama.cpp's converters write them; what is no text is none.
    pub(crate) fn pieces(&self) -> Option<impl Iterator<Item = Option<&str>>> {
        let Self::Gguf(file) = self else { return None };
        let Value::List(pieces) = file.value("tokenizer.ggml.tokens")? else { return None };
        Some(pieces.values().map(|piece| if let Value::Text(piece) = piece { Some(piece) } else { None }))
    }

    fn source(&self) -> &dyn WeightSource {
        match self {
            Self::Safetensors(file) => file,
            Self::Torch(file) => file,
            Self::Gguf(file) => file,
        }
    }
}

impl WeightSource for TensorFile {
    fn label(&self) -> &str {
        self.source().label()
    }

    fn manifest(&self) -> &Manifest {
        self.source().manifest()
    }

    fn read(&self, name: &str) -> std::result::Result<Stored, TensorError> {
        self.source().read(name)
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source().note(key)
    }
}

/// Opens a file of tensors, whatever its name says; anything else is named for what it is.
pub(crate) fn open_file(path: &Path) -> Result<TensorFile> {
    let length = regular(path)?.len();
    // Files of the system's own, such as those in /proc, have no length either; reading one may wait for ever.
    if length == 0 {
        return Err(Error::NotAModel { found: Container::Empty, line: None });
    }
    let control = PathBuf::from(format!("{}.aria2", path.display()));
    if control.is_file() {
        return Err(Error::Unfinished { control });
    }
    let mut head = Vec::new();
    let read = |source| Error::Read { path: path.to_owned(), source };
    File::open(path).map_err(read)?.take(HEAD as u64).read_to_end(&mut head).map_err(read)?;
    match Container::of(&head) {
        Some(Container::Safetensors) | None => Ok(TensorFile::Safetensors(Safetensors::open(path)?)),
        Some(Container::Gguf) => Ok(TensorFile::Gguf(Gguf::open(path)?)),
        Some(Container::TorchZip | Container::Pickle) => Ok(TensorFile::Torch(TorchFile::open(path)?)),
        Some(found @ Container::Unknown) => {
            let bytes: Vec<_> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Err(Error::NotAModel { found, line: Some(bytes.join(" ")) })
        }
        Some(found) => Err(Error::NotAModel { found, line: found.is_text().then(|| begins(found, &head)) }),
    }
}

/// The metadata of a regular file; pipes, sockets and devices, whose reading may wait for ever, are told without opening them.
pub(crate) fn regular(path: &Path) -> Result<Metadata> {
    let metadata = path.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(Error::NotRegular { path: path.to_owned(), found: special(&metadata) })
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let length = regular(path)?.len();
    if length > limit {
        return Err(Error::TooLong { path: path.to_owned(), found: length, limit });
    }
    let mut bytes = Vec::new();
    if length > 0 {
        let read = |source| Error::Read { path: path.to_owned(), source };
        File::open(path).map_err(read)?.take(limit).read_to_end(&mut bytes).map_err(read)?;
    }
    Ok(bytes)
}

#[cfg(unix)]
fn special(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() { "a folder" } else { "a device" }
}

/// What a file is in a sentence, with the beginning of a text.
pub(crate) fn described(found: Container, bytes: &[u8]) -> String {
    let name = found.name();
    match found.is_text().then(|| begins(found, &bytes[..bytes.len().min(HEAD)])) {
        Some(line) if !line.is_empty() => format!("{name} that begins `{line}`"),
        Some(_) | None => name.to_owned(),
    }
}

/// The longest part of a text's first line that is quoted.
const QUOTED: usize = 80;

/// How a text begins: its first line that has letters, cut; of JSON, whose first line may be a brace, more lines in one.
fn begins(found: Container, head: &[u8]) -> String {
    let text = match head {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        head => String::from_utf8_lossy(head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)).into_owned(),
    };
    let line = if found == Container::Json {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    };
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes.as_chunks().0.iter().map(|&bytes| unit(bytes)).collect();
    String::from_utf16_lossy(&units)
}
