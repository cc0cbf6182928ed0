//! The headers of files that are written: everything before the tensors' bytes.

use core_tensor::Format;

use crate::gguf::type_number;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How its numbers lie in their bytes.
    pub format: Format,
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl Entry {
    /// How many bytes it takes; `None` where they are no whole number of blocks, or can't be counted.
    pub fn bytes(&self) -> Option<u64> {
        self.format.size_of(&self.shape)
    }
}

/// What tensors of GGUF files begin at a multiple of, in bytes, as long as a file says nothing else.
pub const GGUF_ALIGNMENT: u64 = 32;

/// The largest number of dimensions that readers of GGUF take (ggml.h, `GGML_MAX_DIMS`).
pub const GGUF_RANK: usize = 4;

/// Whether a GGUF file can hold a format.
pub fn is_in_gguf(format: Format) -> bool {
    type_number(format).is_some()
}

/// The beginning of a GGUF file of version 3 with texts in its metadata; the tensors follow in this order, each at the next multiple
/// of [`GGUF_ALIGNMENT`]. A tensor without dimensions is written with one. `None` for a format that such a file can't hold, and for
/// sizes that can't be counted.
pub fn gguf_header(texts: &[(String, String)], tensors: &[Entry]) -> Option<Vec<u8>> {
    /// The type of texts among the types of values.
    const TEXT: u32 = 8;
    /// That of integers of 32 bits without a sign.
    const U32: u32 = 4;
    /// The layouts of blocks that every reader since 2023 has (ggml.h, `GGML_QNT_VERSION`).
    const LAYOUTS: u32 = 2;
    let mut header = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((texts.len() as u64 + 1).to_le_bytes());
    let text = |header: &mut Vec<u8>, text: &str| {
        header.extend((text.len() as u64).to_le_bytes());
        header.extend(text.as_bytes());
    };
    for (key, value) in texts {
        text(&mut header, key);
        header.extend(TEXT.to_le_bytes());
        text(&mut header, value);
    }
    text(&mut header, "general.quantization_version");
    header.extend(U32.to_le_bytes());
    header.extend(LAYOUTS.to_le_bytes());
    let mut offset = 0u64;
    for tensor in tensors {
        text(&mut header, &tensor.name);
        let one = [1];
        let shape: &[usize] = if tensor.shape.is_empty() { &one } else { &tensor.shape };
        header.extend(u32::try_from(shape.len()).ok()?.to_le_bytes());
        shape.iter().rev().for_each(|dim| header.extend((*dim as u64).to_le_bytes()));
        header.extend(type_number(tensor.format)?.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset = offset.checked_add(tensor.bytes()?)?.checked_next_multiple_of(GGUF_ALIGNMENT)?;
    }
    header.resize(header.len().next_multiple_of(GGUF_ALIGNMENT as usize), 0);
    Some(header)
}

/// The beginning of a safetensors file with texts in its metadata; the tensors follow in this order, one after the other. `None` for
/// sizes that can't be counted, and for two tensors of one name, which the metadata's is too.
pub fn safetensors_header(texts: &[(String, String)], tensors: &[Entry]) -> Option<Vec<u8>> {
    let mut header = serde_json::Map::new();
    let metadata = texts.iter().map(|(key, text)| (key.clone(), text.clone().into()));
    header.insert("__metadata__".into(), serde_json::Value::Object(metadata.collect()));
    let mut end = 0u64;
    for tensor in tensors {
        let start = end;
        end = end.checked_add(tensor.bytes()?)?;
        let entry = serde_json::json!({
            "dtype": tensor.format.name(), "shape": tensor.shape, "data_offsets": [start, end],
        });
        if header.insert(tensor.name.clone(), entry).is_some() {
            return None;
        }
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Some([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}

#[cfg(test)]
mod tests {
    use core_tensor::{WeightSource, safetensors::Safetensors};

    use super::*;
    use crate::{Gguf, formats};

    fn entries(block: Format) -> Vec<Entry> {
        let entry = |name: &str, format, shape: &[usize]| Entry { name: name.into(), format, shape: shape.to_vec() };
        vec![
            entry("b", block, &[3, 32]),
            entry("a.scalar", Format::F32, &[]),
            entry("a.bias", Format::F16, &[5]),
            entry("c", Format::I64, &[1, 7]),
        ]
    }

    fn texts() -> Vec<(String, String)> {
        vec![("general.architecture".into(), "flux".into()), ("modelspec.title".into(), "a \"ä\"".into())]
    }

    #[test]
    fn a_gguf_header_is_read_back_with_its_texts_and_each_tensor_at_its_place() {
        let entries = entries(formats::Q8_0);
        let mut file = gguf_header(&texts(), &entries).unwrap();
        for (i, entry) in entries.iter().enumerate() {
            file.extend(vec![i as u8; entry.bytes().unwrap() as usize]);
            file.resize(file.len().next_multiple_of(32), 0);
        }
        let file = Gguf::from_bytes("f.gguf".as_ref(), file).unwrap();
        assert_eq!((file.architecture(), file.note("modelspec.title")), (Some("flux"), Some("a \"ä\"")));
        for (i, entry) in entries.iter().enumerate() {
            let stored = file.read(&entry.name).unwrap();
            let shape = if entry.shape.is_empty() { vec![1] } else { entry.shape.clone() };
            assert_eq!((stored.format(), stored.shape()), (entry.format, &*shape), "{}", entry.name);
            assert!(stored.to_bytes().iter().all(|byte| *byte == i as u8), "{}", entry.name);
        }
        assert_eq!(gguf_header(&[], &[Entry { name: "x".into(), format: Format::BOOL, shape: vec![1] }]), None);
    }

    #[test]
    fn a_safetensors_header_is_read_back_with_its_texts() {
        let entries = entries(Format::BF16);
        let mut file = safetensors_header(&texts(), &entries).unwrap();
        entries.iter().for_each(|entry| file.resize(file.len() + entry.bytes().unwrap() as usize, 0));
        let file = Safetensors::from_bytes("f.safetensors".as_ref(), file).unwrap();
        assert_eq!(file.note("modelspec.title"), Some("a \"ä\""));
        assert_eq!(file.manifest().len(), entries.len());
        for name in ["b", "__metadata__"] {
            let twice = Entry { name: name.into(), ..entries[1].clone() };
            assert_eq!(safetensors_header(&[], &[&entries[..], &[twice]].concat()), None, "{name}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_no_header() {
        let huge = Entry { name: "x".into(), format: Format::F32, shape: vec![usize::MAX, 2] };
        assert_eq!(gguf_header(&[], std::slice::from_ref(&huge)), None);
        assert_eq!(safetensors_header(&[], &[huge]), None);
    }
}
