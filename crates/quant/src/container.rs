/// How many bytes of a file's head tell what it is, at most.
pub const HEAD: usize = 4096;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// The length of a header and a brace, as safetensors begin.
    Safetensors,
    /// `GGUF`, llama.cpp's format of blocks.
    Gguf,
    /// Its predecessors.
    Ggml,
    /// A zip archive with a pickle in it: a PyTorch checkpoint, whose tensors are read without running it.
    TorchZip,
    /// Another zip archive.
    Zip,
    /// A bare pickle, as PyTorch wrote before 1.6.
    Pickle,
    /// What git-lfs leaves in place of a file that it has not fetched.
    LfsPointer,
    /// The list of the files that a model is split into.
    Index,
    /// A web page.
    Html,
    /// Another XML document.
    Xml,
    /// JSON.
    Json,
    /// Other text.
    Text,
    /// Nothing but zeros, as far as was looked.
    Zeros,
    /// No bytes at all.
    Empty,
    /// What macOS writes beside a file on a foreign disk.
    AppleDouble,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// LZ4.
    Lz4,
    /// 7z.
    SevenZip,
    /// rar.
    Rar,
    /// tar.
    Tar,
    /// ONNX.
    Onnx,
    /// TensorFlow Lite.
    TfLite,
    /// HDF5, as Keras writes.
    Hdf5,
    /// A NumPy array.
    NumPy,
    /// A picture.
    Picture,
    /// A PDF document.
    Pdf,
    /// A program.
    Program,
    /// A SQLite database.
    Sqlite,
    /// Parquet, a table.
    Parquet,
    /// Bytes that no header of safetensors begins with, and no other format that is known.
    Unknown,
}

impl Container {
    /// The container of a file whose first bytes are `head`: [`HEAD`] of them, or all if it has fewer. `None` where there is no
    /// telling.
    pub fn of(head: &[u8]) -> Option<Self> {
        if let Some((length, [b'{', ..])) = head.split_first_chunk::<8>()
            && u64::from_le_bytes(*length) <= LONGEST_HEADER
        {
            return Some(Self::Safetensors);
        }
        if head.is_empty() {
            return Some(Self::Empty);
        }
        if head.iter().all(|&byte| byte == 0) {
            return Some(Self::Zeros);
        }
        if let Some((_, container)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Some(*container);
        }
        let at = |start: usize, magic: &[u8]| head.get(start..).is_some_and(|rest| rest.starts_with(magic));
        match head {
            [b'P', b'K', 3..=8, 4..=8, ..] if contains(head, b"data.pkl") => Some(Self::TorchZip),
            [b'P', b'K', 3..=8, 4..=8, ..] => Some(Self::Zip),
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WEBP") => Some(Self::Picture),
            [0x80, 2..=5, ..] => Some(Self::Pickle),
            _ if at(257, b"ustar") => Some(Self::Tar),
            _ if at(4, b"TFL3") => Some(Self::TfLite),
            // The field for the version, a small number, then that for the producer, a text.
            [8, 1..=20, 0x12, ..] | [8, 1..=20, 0x1a, ..] | [8, 1..=20, 0x3a, ..] => Some(Self::Onnx),
            _ => text(head).or_else(|| Self::unknown(head)),
        }
    }

    /// A length of the header that no file has, before what is no header.
    fn unknown(head: &[u8]) -> Option<Self> {
        let (length, rest) = head.split_first_chunk::<8>()?;
        let is_header = rest.first().is_none_or(|&first| first == b'{');
        (!is_header && u64::from_le_bytes(*length) > LONGEST_HEADER).then_some(Self::Unknown)
    }

    /// What to call it, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "a safetensors file",
            Self::Gguf => "a GGUF file",
            Self::Ggml => "a GGML file, the predecessor of GGUF, which is not supported",
            Self::TorchZip | Self::Pickle => "a PyTorch pickle",
            Self::Zip => "a zip archive",
            Self::LfsPointer => "a git-lfs pointer, which stands for a file that was not fetched",
            Self::Index => "the index of a model that is split into several files",
            Self::Html => "a web page",
            Self::Xml => "an XML document",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Zeros => "a file of zeros, as a download that did not finish leaves it",
            Self::Empty => "an empty file",
            Self::AppleDouble => "an AppleDouble file, which macOS writes beside the real one",
            Self::Gzip => "gzip, a compressed file",
            Self::Zstd => "Zstandard, a compressed file",
            Self::Xz => "xz, a compressed file",
            Self::Bzip2 => "bzip2, a compressed file",
            Self::Lz4 => "LZ4, a compressed file",
            Self::SevenZip => "a 7z archive",
            Self::Rar => "a rar archive",
            Self::Tar => "a tar archive",
            Self::Onnx => "an ONNX model",
            Self::TfLite => "a TensorFlow Lite model",
            Self::Hdf5 => "an HDF5 file, as Keras writes",
            Self::NumPy => "a NumPy array",
            Self::Picture => "a picture",
            Self::Pdf => "a PDF document",
            Self::Program => "a program",
            Self::Sqlite => "a SQLite database",
            Self::Parquet => "a Parquet table",
            Self::Unknown => "a file of an unknown kind",
        }
    }

    /// Whether it is text for people, whose first line tells more.
    pub fn is_text(self) -> bool {
        match self {
            Self::Html | Self::Xml | Self::Json | Self::Text => true,
            Self::Safetensors | Self::Gguf | Self::Ggml | Self::TorchZip | Self::Zip | Self::Pickle => false,
            Self::LfsPointer | Self::Index | Self::Zeros | Self::Empty | Self::AppleDouble | Self::Gzip => false,
            Self::Zstd | Self::Xz | Self::Bzip2 | Self::Lz4 | Self::SevenZip | Self::Rar | Self::Tar => false,
            Self::Onnx | Self::TfLite | Self::Hdf5 | Self::NumPy | Self::Picture | Self::Pdf => false,
            Self::Program | Self::Sqlite | Self::Parquet | Self::Unknown => false,
        }
    }
}

/// The longest header of safetensors that anybody reads, the reference reader's; lengths above are other files' first bytes.
const LONGEST_HEADER: u64 = 100_000_000;

const MAGIC: &[(&[u8], Container)] = &[
    (b"GGUF", Container::Gguf),
    (b"FUGG", Container::Gguf), // big-endian
    (b"lmgg", Container::Ggml), // numbers, stored little-endian
    (b"fmgg", Container::Ggml),
    (b"tjgg", Container::Ggml),
    (b"algg", Container::Ggml),
    (b"ggml", Container::Ggml),
    (b"ggjt", Container::Ggml),
    (b"\x00\x05\x16\x07", Container::AppleDouble),
    (b"\x00\x05\x16\x00", Container::AppleDouble),
    (b"\x1f\x8b", Container::Gzip),
    (b"\x28\xb5\x2f\xfd", Container::Zstd),
    (b"\xfd7zXZ\0", Container::Xz),
    (b"BZh", Container::Bzip2),
    (b"\x04\x22\x4d\x18", Container::Lz4),
    (b"7z\xbc\xaf\x27\x1c", Container::SevenZip),
    (b"Rar!\x1a\x07", Container::Rar),
    (b"\x89HDF\r\n\x1a\n", Container::Hdf5),
    (b"\x93NUMPY", Container::NumPy),
    (b"\x89PNG\r\n\x1a\n", Container::Picture),
    (b"\xff\xd8\xff", Container::Picture),
    (b"GIF8", Container::Picture),
    (b"%PDF", Container::Pdf),
    (b"\x7fELF", Container::Program),
    (b"SQLite format 3\0", Container::Sqlite),
    (b"PAR1", Container::Parquet),
];

/// Text by its beginning; `None` where it is none.
fn text(head: &[u8]) -> Option<Container> {
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Some(Container::Text); // UTF-16
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let is_control = |byte: &u8| *byte < 32 && !matches!(byte, b'\t' | b'\n' | b'\r' | 12 | 27);
    if head.iter().any(is_control) {
        return None;
    }
    let lower = head.trim_ascii_start().to_ascii_lowercase();
    let begins = |start: &[u8]| lower.starts_with(start);
    if begins(b"version https://git-lfs") || begins(b"version https://hawser") {
        Some(Container::LfsPointer)
    } else if begins(b"<?xml") && !contains(&lower, b"<html") {
        Some(Container::Xml)
    } else if begins(b"<!doctype html") || begins(b"<html") || contains(&lower, b"<html") || contains(&lower, b"<body")
    {
        Some(Container::Html)
    } else if begins(b"<") {
        Some(Container::Xml)
    } else if !is_utf8(head) {
        None
    } else if begins(b"{") || begins(b"[") {
        Some(if contains(head, b"\"weight_map\"") { Container::Index } else { Container::Json })
    } else {
        Some(Container::Text)
    }
}

/// Whether these are the first bytes of text in UTF-8, of which a letter may be cut.
fn is_utf8(head: &[u8]) -> bool {
    std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_first_bytes() {
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\x0000");
        let cases: &[(&[u8], Option<Container>)] = &[
            (b"GGUF\x03\0\0\0", Some(Container::Gguf)),
            (b"GGUF", Some(Container::Gguf)),
            (b"tjgg\x03\0\0\0", Some(Container::Ggml)),
            (b"PK\x03\x04\x14\0\0\0\0\0archive/data.pkl", Some(Container::TorchZip)),
            (b"PK\x03\x04\x14\0\0\0\0\0readme.txt", Some(Container::Zip)),
            (b"PK\x05\x06\0\0", Some(Container::Zip)),
            (b"\x80\x02}q\0", Some(Container::Pickle)),
            (b"\x80\x02\0\0\0\0\0\0{", Some(Container::Safetensors)),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", Some(Container::LfsPointer)),
            (b"<!DOCTYPE html><html>404</html>", Some(Container::Html)),
            (b"\xef\xbb\xbf\n <HTML lang=\"\xe9\">", Some(Container::Html)),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Some(Container::Xml)),
            (b"<Error/>", Some(Container::Xml)),
            (b"{\"error\":\"Repository not found\"}", Some(Container::Json)),
            (b"[1, 2]", Some(Container::Json)),
            (b"{\"metadata\":{},\"weight_map\":{}}", Some(Container::Index)),
            (b"Invalid username or password.", Some(Container::Text)),
            ("Accès refus\u{e9}".as_bytes(), Some(Container::Text)),
            (&[0; 4096], Some(Container::Zeros)),
            (b"", Some(Container::Empty)),
            (b"\x00\x05\x16\x07\x00\x02\0\0Mac OS X", Some(Container::AppleDouble)),
            (b"\x1f\x8b\x08", Some(Container::Gzip)),
            (b"\x28\xb5\x2f\xfd\x04", Some(Container::Zstd)),
            (b"\xfd7zXZ\0\0", Some(Container::Xz)),
            (b"BZh91AY", Some(Container::Bzip2)),
            (b"7z\xbc\xaf\x27\x1c\0\x04", Some(Container::SevenZip)),
            (b"Rar!\x1a\x07\x01\0", Some(Container::Rar)),
            (&tar, Some(Container::Tar)),
            (b"\x08\x08\x12\x07pytorch", Some(Container::Onnx)),
            (b"\x1c\0\0\0TFL3", Some(Container::TfLite)),
            (b"\x89HDF\r\n\x1a\n", Some(Container::Hdf5)),
            (b"\x93NUMPY\x01\0", Some(Container::NumPy)),
            (b"\x89PNG\r\n\x1a\n", Some(Container::Picture)),
            (b"\xff\xd8\xff\xe0", Some(Container::Picture)),
            (b"%PDF-1.7", Some(Container::Pdf)),
            (b"\x80", None),
            (b"\xff\x01\x02\x03", None),
            (b"\xff\x01\x02\x03\x04\x05\x06\x07\x08", Some(Container::Unknown)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", None),
        ];
        for (head, expected) in cases {
            assert_eq!(Container::of(head), *expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn no_head_of_a_real_header_is_taken_for_another_file() {
        // Every length of header up to the longest that the reader takes, whose low bytes spell anything.
        for length in (0..32u64 << 20).step_by(997).chain([32 << 20]) {
            let head = [&length.to_le_bytes()[..], b"{\"a\":"].concat();
            assert_eq!(Container::of(&head), Some(Container::Safetensors), "{length}");
        }
    }
}
