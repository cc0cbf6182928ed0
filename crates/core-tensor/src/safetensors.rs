//! Files of tensors in the safetensors format: opened, checked, and mapped where the system can.
//!
//! Opening reads the header only and validates every byte range against the shapes, against each other and against the
//! file's length; after that no read can fail or leave the file, unless another program shortens it. The rules are those of the format's specification, plus two:
//! a name may occur once, and the header is at most 32 MiB.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::{Dtype, Error, Stored, WeightSource};

/// The longest header that is read; the largest known file's is 1.3 MB.
const HEADER_LIMIT: u64 = 32 << 20;

/// An open safetensors file.
///
/// Promises that every tensor lies inside the file, that none overlaps another, and that together they fill it.
pub struct Safetensors {
    path: PathBuf,
    bytes: Arc<Bytes>,
    data: usize,
    tensors: BTreeMap<String, Entry>,
}

/// A tensor's place and form in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The number format.
    pub dtype: Dtype,
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    range: Range<usize>,
}

impl Safetensors {
    /// Opens and validates a file.
    ///
    /// # Errors
    /// Every way in which the bytes can contradict the format, with what was expected and found.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        if !path.metadata().map_err(read)?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(read)?;
        Self::parse(path, Arc::new(map(&file).map_err(read)?))
    }

    fn parse(path: &Path, bytes: Arc<Bytes>) -> Result<Self, Error> {
        let path = path.to_owned();
        let found = bytes.as_ref().as_ref().len() as u64;
        let truncated = |what, expected| Error::Truncated { path: path.clone(), what, expected, found };
        let length = bytes.as_ref().as_ref().first_chunk::<8>().ok_or_else(|| truncated("the header's length", 8))?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_LIMIT {
            return Err(Error::HeaderTooLong { path, found: length, limit: HEADER_LIMIT });
        }
        let data = 8 + length as usize;
        let header = bytes.as_ref().as_ref().get(8..data).ok_or_else(|| truncated("the header", data as u64))?;
        let header: Header =
            serde_json::from_slice(header).map_err(|source| Error::Header { path: path.clone(), source })?;
        let tensors = extents(&path, header.tensors, found - data as u64)?;
        Ok(Self { path, bytes, data, tensors })
    }

    /// Every tensor's name and form, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl WeightSource for Safetensors {
    fn label(&self) -> String {
        format!("`{}`", self.path.display())
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn each_name(&self, see: &mut dyn FnMut(&str)) {
        self.tensors.keys().for_each(|name| see(name));
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        self.tensors.get(name).map(|entry| (entry.dtype, entry.shape.clone()))
    }

    fn read(&self, name: &str) -> Option<Stored> {
        let Entry { dtype, shape, range } = self.tensors.get(name)?.clone();
        let range = self.data + range.start..self.data + range.end;
        Some(Stored::mapped(dtype, shape, self.bytes.clone(), range))
    }
}

/// Writes tensors as a safetensors file: row-major f32 or i64 values under their names.
///
/// # Errors
/// Whatever `out` reports.
pub fn write(out: &mut dyn Write, tensors: &[(String, Vec<usize>, Values)]) -> io::Result<()> {
    let mut end = 0;
    let mut header = serde_json::Map::new();
    for (name, shape, values) in tensors {
        let (dtype, size) = match values {
            Values::F32(v) => ("F32", v.len() * 4),
            Values::I64(v) => ("I64", v.len() * 8),
        };
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [end, end + size] });
        header.insert(name.clone(), entry);
        end += size;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, _, values) in tensors {
        match values {
            Values::F32(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?,
            Values::I64(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?,
        }
    }
    Ok(())
}

/// Values to write.
#[derive(Clone, Debug)]
pub enum Values {
    /// Floats.
    F32(Vec<f32>),
    /// Integers, such as token ids.
    I64(Vec<i64>),
}

/// Checks that the tensors follow each other without hole or overlap and end where the file ends.
fn extents(
    path: &Path,
    tensors: BTreeMap<String, TensorInfo>,
    available: u64,
) -> Result<BTreeMap<String, Entry>, Error> {
    let mut entries: Vec<_> = tensors.into_iter().collect();
    entries.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in &entries {
        let (start, stop) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let extent = |problem, expected, found| {
            Err(Error::Extent { path: path.to_owned(), name: name.clone(), problem, expected, found })
        };
        let size = byte_size(info).ok_or_else(|| Error::Overflow {
            path: path.to_owned(),
            name: name.clone(),
            shape: info.shape.clone(),
        })?;
        if start != end {
            return extent("does not begin where the one before it ends", end, start);
        }
        if stop.checked_sub(start) != Some(size) {
            return extent("has a byte range that is not its shape's size", size, stop.saturating_sub(start));
        }
        if stop > available {
            return extent("ends beyond the file", available, stop);
        }
        end = stop;
    }
    if end != available {
        let name = entries.pop().map_or_else(String::new, |(name, _)| name);
        let problem = "is the last, but bytes follow it";
        return Err(Error::Extent { path: path.to_owned(), name, problem, expected: end, found: available });
    }
    Ok(entries
        .into_iter()
        .map(|(name, info)| {
            let range = info.data_offsets.0..info.data_offsets.1;
            (name, Entry { dtype: info.dtype, shape: info.shape, range })
        })
        .collect())
}

fn byte_size(info: &TensorInfo) -> Option<u64> {
    let bits = info.shape.iter().try_fold(info.dtype.bitsize() as u64, |n, &d| n.checked_mul(d as u64))?;
    (bits % 8 == 0).then_some(bits / 8)
}

struct Header {
    tensors: BTreeMap<String, TensorInfo>,
}

impl<'de> serde::Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A map visitor of our own, because serde's maps keep the last of two equal keys and parsers differ in which one they trust.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { tensors: BTreeMap::new() };
        let mut annotated = false;
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "__metadata__" {
                map.next_value::<BTreeMap<String, String>>()?; // notes, which nothing here reads but which have a form
                std::mem::replace(&mut annotated, true)
            } else {
                header.tensors.insert(name.clone(), map.next_value()?).is_some()
            };
            if twice {
                return Err(serde::de::Error::custom(format_args!("`{name}` occurs twice")));
            }
        }
        Ok(header)
    }
}

/// A file's bytes: mapped, or read where mapping is not possible.
pub(crate) enum Bytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the map is read-only and private to this process. Another process that shortens the file while it is mapped
    // can end this one with SIGBUS, as with every mapped file; the bytes themselves are only ever read as plain integers.
    match unsafe { memmap2::Mmap::map(file) } {
        Ok(map) => Ok(Bytes::Mapped(map)),
        Err(_) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut &*file, &mut bytes)?;
            Ok(Bytes::Read(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn parse(bytes: Vec<u8>) -> Result<Safetensors, Error> {
        Safetensors::parse(Path::new("m.safetensors"), Arc::new(Bytes::Read(bytes)))
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_valid_file_gives_its_tensors() {
        let file = parse(file(ONE, 8)).unwrap();
        assert_eq!(file.form("a"), Some((Dtype::F32, vec![2])));
        assert_eq!(file.read("a").unwrap().to_f32().unwrap(), [0.0, 0.0]);
        assert!(file.read("b").is_none());
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = Vec::new();
        let tensors = [
            ("b".to_owned(), vec![1, 2], Values::F32(vec![1.5, -2.0])),
            ("ids".to_owned(), vec![3], Values::I64(vec![1, -2, 3])),
        ];
        write(&mut bytes, &tensors).unwrap();
        let file = parse(bytes).unwrap();
        assert_eq!(file.read("b").unwrap().to_f32().unwrap(), [1.5, -2.0]);
        assert_eq!(file.form("ids"), Some((Dtype::I64, vec![3])));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = file(ONE, 8);
        for length in 0..whole.len() {
            assert!(parse(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn two_entries_of_one_name_are_an_error() {
        let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(matches!(parse(file(header, 1)), Err(Error::Header { .. })));
    }

    #[test]
    fn contradictions_name_the_tensor_and_both_numbers() {
        let cases = [
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                "`a` has a byte range that is not its shape's size: expected 8, found 4",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                6,
                "`b` does not begin where the one before it ends: expected 4, found 2",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#,
                5,
                "`a` does not begin where the one before it ends: expected 0, found 1",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                3,
                "`a` ends beyond the file: expected 3, found 4",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                9,
                "`a` is the last, but bytes follow it: expected 4, found 9",
            ),
            (r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,0]}}"#, 4, "`a` does not begin"),
        ];
        for (header, data, message) in cases {
            let error = parse(file(header, data)).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn counts_that_overflow_are_an_error() {
        let header =
            format!(r#"{{"a":{{"dtype":"F32","shape":[{0},{0}],"data_offsets":[0,4]}}}}"#, u32::MAX as u64 + 1);
        assert!(matches!(parse(file(&header, 4)), Err(Error::Overflow { .. })));
        let mut long = file(ONE, 8);
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(parse(long), Err(Error::HeaderTooLong { .. })));
    }

    #[test]
    fn what_this_reader_accepts_the_reference_accepts() {
        // Mutations of a valid header, by a fixed linear congruential sequence.
        let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}"#;
        let valid = file(header, 20);
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut bytes = valid.clone();
            for _ in 0..1 + next(2) {
                let at = next(bytes.len());
                bytes[at] = if next(2) == 0 { b"0123456789,:[]{}\" "[next(18)] } else { next(256) as u8 };
            }
            let reference = ::safetensors::SafeTensors::deserialize(&bytes).is_ok();
            let ours = parse(bytes).is_ok();
            assert!(reference || !ours, "accepted what the reference refuses");
            accepted += usize::from(ours);
        }
        assert!(accepted > 1000, "the mutations must reach past the header: {accepted}");
    }
}
