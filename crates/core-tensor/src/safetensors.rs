//! Files of tensors in the safetensors format: opened, checked, and mapped where the system can.
//!
//! Opening reads the header only and validates every byte range against the shapes, against each other and against the
//! file's length; after that no read can fail or leave the file, unless another program shortens it. The rules are those of the format's specification, plus two:
//! a name may occur once, and the header is at most 32 MiB.

mod header;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use self::header::Fault;
pub use self::header::NAME_LIMIT;
use crate::{Error, Format, Manifest, Mapped, Stored, WeightSource};

/// Every number format of a header.
const FORMATS: [Format; 22] = [
    Format::BOOL,
    Format::F4,
    Format::F6_E2M3,
    Format::F6_E3M2,
    Format::U8,
    Format::I8,
    Format::F8_E5M2,
    Format::F8_E4M3,
    Format::F8_E8M0,
    Format::F8_E4M3FNUZ,
    Format::F8_E5M2FNUZ,
    Format::I16,
    Format::U16,
    Format::F16,
    Format::BF16,
    Format::I32,
    Format::U32,
    Format::F32,
    Format::C64,
    Format::F64,
    Format::I64,
    Format::U64,
];

/// The longest header that is read; the largest known file's is 1.3 MB.
pub const HEADER_LIMIT: u64 = 32 << 20;

/// An open safetensors file.
///
/// Promises that every tensor lies inside the file, that none overlaps another, and that together they fill it.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    label: String,
    bytes: Mapped,
    data: usize,
    manifest: Manifest,
    notes: BTreeMap<String, String>,
}

impl Safetensors {
    /// Opens and validates a file. Takes less memory than the header's own four times over, whatever it claims.
    ///
    /// # Errors
    /// Every way in which the bytes can contradict the format, with what was expected and found.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, Mapped::open(path)?)
    }

    /// Validates a file's bytes; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(path, bytes.into())
    }

    fn parse(path: &Path, bytes: Mapped) -> Result<Self, Error> {
        let path = path.to_owned();
        let found = bytes.len() as u64;
        let truncated = |what, expected| Error::Truncated { path: path.clone(), what, expected, found };
        let length = bytes.first_chunk::<8>().ok_or_else(|| truncated("the header's length", 8))?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_LIMIT {
            return Err(Error::HeaderTooLong { path, found: length, limit: HEADER_LIMIT });
        }
        let data = 8 + length as usize;
        let header = bytes.get(8..data).ok_or_else(|| truncated("the header", data as u64))?;
        let (manifest, notes) = header::parse(header).map_err(|fault| refused(&path, fault))?;
        check_extents(&path, &manifest, found - data as u64)?;
        Ok(Self { label: format!("`{}`", path.display()), path, bytes, data, manifest, notes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the system have the memory in which the file was read; what is needed of it is read again.
    pub fn give_back(&self) {
        self.bytes.give_back(0..self.bytes.len());
    }
}

impl WeightSource for Safetensors {
    fn label(&self) -> &str {
        &self.label
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label.clone() };
        let form = self.manifest.get(name).ok_or_else(missing)?;
        let [start, end] = self.manifest.range(name).ok_or_else(missing)?.map(|at| self.data + at as usize);
        Stored::within(form.format, form.shape.to_vec(), &self.bytes, start..end)
    }

    /// What stands under `__metadata__`, if it is short.
    fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
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
fn check_extents(path: &Path, manifest: &Manifest, available: u64) -> Result<(), Error> {
    let extent = |name: &str, problem, expected, found| {
        Err(Error::Extent { path: path.to_owned(), name: name.to_owned(), problem, expected, found })
    };
    let (mut end, mut last) = (0, "");
    for (name, form, [start, stop]) in manifest.by_range() {
        // In bits too, as the reference counts them.
        let size = form.format.size_of(form.shape).filter(|size| size.checked_mul(8).is_some()).ok_or_else(|| {
            Error::Overflow { path: path.to_owned(), name: name.to_owned(), shape: form.shape.to_vec() }
        })?;
        if start != end {
            return extent(name, "does not begin where the one before it ends", end, start);
        }
        if stop.checked_sub(start) != Some(size) {
            let problem = "has a byte range that is not its shape's size";
            return extent(name, problem, size, stop.saturating_sub(start));
        }
        if stop > available {
            return extent(name, "ends beyond the file", available, stop);
        }
        (end, last) = (stop, name);
    }
    if end != available {
        return extent(last, "is the last, but bytes follow it", end, available);
    }
    Ok(())
}

fn refused(path: &Path, fault: Fault) -> Error {
    let path = path.to_owned();
    match fault {
        Fault::Json(source) => Error::Header { path, source },
        Fault::Twice(name) => Error::Twice { path, name },
        Fault::Rank(name) => Error::Rank { path, name, limit: header::RANK_LIMIT },
        Fault::LongName(start) => Error::LongName { path, start, limit: header::NAME_LIMIT },
        Fault::Format { name, found } => Error::UnknownFormat { path, name, found },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Form;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn parse(bytes: Vec<u8>) -> Result<Safetensors, Error> {
        Safetensors::from_bytes(Path::new("m.safetensors"), bytes)
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_valid_file_gives_its_tensors() {
        let file = parse(file(ONE, 8)).unwrap();
        assert_eq!(file.manifest().get("a"), Some(Form { format: Format::F32, shape: &[2], bytes: 8 }));
        assert_eq!(file.read("a").unwrap().to_f32().unwrap(), [0.0, 0.0]);
        let missing = file.read("b").err().unwrap();
        assert_eq!(missing.to_string(), "tensor `b` is missing from `m.safetensors`");
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
        assert_eq!(file.manifest().get("ids"), Some(Form { format: Format::I64, shape: &[3], bytes: 24 }));
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
        assert!(matches!(parse(file(header, 1)), Err(Error::Twice { name, .. }) if name == "a"));
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
    fn a_models_notes_are_kept_and_others_if_they_are_short_and_few() {
        let (long, huge) = ("x".repeat(1000), "x".repeat(2 << 20));
        let many = |start: &str| (0..100).map(|i| format!(r#""{start}{i:03}":"","#)).collect::<String>();
        let (others, models) = (many("n"), many("modelspec.n"));
        let header = format!(
            r#"{{"__metadata__":{{{others}"modelspec.prediction_type":"v","modelspec.description":"{long}","modelspec.thumbnail":"{huge}",{models}"tags":"{long}","{long}":"a"}},"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#
        );
        let file = parse(file(&header, 1)).unwrap();
        assert_eq!((file.note("modelspec.prediction_type"), file.note("n000")), (Some("v"), Some("")));
        assert_eq!(file.note("modelspec.description"), Some(&*long));
        for left in ["tags", &long, "n099", "modelspec.thumbnail", "modelspec.n099"] {
            assert_eq!(file.note(left), None, "{left}");
        }
        assert!(Arc::new(file).note("modelspec.prediction_type") == Some("v"));
    }

    #[test]
    fn metadata_may_be_null_as_the_reference_has_it() {
        let null =
            parse(file(r#"{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1)).unwrap();
        assert_eq!(null.manifest().names().collect::<Vec<_>>(), ["a"]);
        for wrong in ["[]", "1", "true", "\"\"", r#"{"a":null}"#, r#"{"a":{}}"#, r#"{"a":1}"#] {
            let header = format!(r#"{{"__metadata__":{wrong}}}"#);
            assert!(matches!(parse(file(&header, 0)), Err(Error::Header { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_no_model_has_is_refused_by_name() {
        let ones =
            |rank: usize| format!(r#"{{"a":{{"dtype":"U8","shape":{:?},"data_offsets":[0,1]}}}}"#, vec![1; rank]);
        assert!(parse(file(&ones(8), 1)).is_ok());
        assert!(matches!(parse(file(&ones(9), 1)), Err(Error::Rank { name, limit: 8, .. }) if name == "a"));
        let called = |name: &str| format!(r#"{{"{name}":{{"dtype":"U8","shape":[],"data_offsets":[0,1]}}}}"#);
        assert!(parse(file(&called(&"a".repeat(1024)), 1)).is_ok());
        let start = "ä".repeat(120) + "…";
        let long = parse(file(&called(&"ä".repeat(513)), 1)).err().unwrap();
        assert!(matches!(&long, Error::LongName { start: found, limit: 1024, .. } if *found == start), "{long}");
        let unknown = parse(file(r#"{"a":{"dtype":"F31","shape":[],"data_offsets":[0,1]}}"#, 1)).err().unwrap();
        assert!(
            matches!(&unknown, Error::UnknownFormat { name, found, .. } if (&**name, &**found) == ("a", "F31")),
            "{unknown}"
        );
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let header = r#"{"b\u0061":{"dtype":"U8","shape":[],"data_offsets":[1,2]},"\n":{"dtype":"U8","shape":[],"data_offsets":[2,3]},
                         "ä":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        let opened = parse([file(header, 0), vec![7, 8, 9]].concat()).unwrap();
        assert_eq!(opened.manifest().names().collect::<Vec<_>>(), ["\n", "ba", "ä"]);
        let byte = |name: &str| opened.read(name).ok().map(|stored| stored.to_bytes());
        assert_eq!((byte("ba"), byte("\n"), byte("ä"), byte("b")), (Some(vec![8]), Some(vec![9]), Some(vec![7]), None));
    }

    #[test]
    fn every_number_format_of_the_reference_is_known_by_its_name_and_size() {
        for format in FORMATS {
            let named: ::safetensors::Dtype = serde_json::from_value(format.name().into()).unwrap();
            assert_eq!(8 * format.bytes(), named.bitsize() * format.weights(), "{format}");
        }
    }

    /// The reader differs from the reference in what it refuses beyond it: names that occur twice, more than eight dimensions, names of
    /// more than 1,024 bytes, headers beyond 32 MiB, and forms that serde would take but no writer makes: a tensor as a list, a format as
    /// an object.
    #[test]
    fn the_verdict_is_the_references_but_for_what_is_refused_beyond_it() {
        let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I64","shape":[],"data_offsets":[12,20],"x":[1,{"y":null}]}}"#;
        let tokens = [
            "null",
            "[]",
            "{}",
            "\"\"",
            "0",
            "1",
            "-1",
            "1e999",
            "1.0",
            "-0",
            "true",
            ",",
            "{",
            "}",
            "[",
            "]",
            " ",
            "\0",
            "\u{7f}",
            "\"\\ud800\"",
            "\"\\u0061\"",
            "\"dtype\":",
            "\"shape\":",
            "\"a\":",
            "\"b\":",
            "__metadata__",
            "data_offsets",
            "18446744073709551615",
            "18446744073709551616",
            "\"F32\"",
            "\"F4\"",
            "[\"F16\",[2,3],[0,12]]",
            "{\"F16\":null}",
        ];
        // Mutations of a valid header, by a fixed linear congruential sequence.
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let (mut both, mut stricter) = (0, 0);
        for _ in 0..1_000_000 {
            let mut bytes = header.as_bytes().to_vec();
            for _ in 0..1 + next(2) {
                let at = next(bytes.len());
                let to = (at + next(6)).min(bytes.len());
                match next(4) {
                    0 => bytes[at] = next(256) as u8,
                    1 => bytes[at] = b"0123456789,:[]{}\" "[next(18)],
                    2 => drop(bytes.splice(at..to, tokens[next(tokens.len())].bytes())),
                    _ => drop(bytes.splice(at..at, tokens[next(tokens.len())].bytes())),
                }
            }
            let mut whole = (bytes.len() as u64).to_le_bytes().to_vec();
            whole.append(&mut bytes);
            whole.resize(whole.len() + 20, 0);
            let reference = ::safetensors::SafeTensors::deserialize(&whole).is_ok();
            match (parse(whole), reference) {
                (Ok(_), true) => both += 1,
                (Err(_), false) => {}
                (Err(Error::Twice { .. } | Error::Rank { .. } | Error::LongName { .. }), true) => stricter += 1,
                // serde's words for the forms that it would take
                (Err(Error::Header { source, .. }), true)
                    if source.to_string().contains("expected an object of `dtype`") =>
                {
                    stricter += 1
                }
                (Err(Error::Header { source, .. }), true)
                    if source.to_string().contains("expected the name of a number") =>
                {
                    stricter += 1
                }
                (ours, reference) => panic!("{:?}, but the reference says {reference}", ours.err()),
            }
        }
        assert!(both > 10_000, "the mutations must reach past the header: {both}");
        assert!(stricter > 0, "the differences that are named must occur");
    }
}
