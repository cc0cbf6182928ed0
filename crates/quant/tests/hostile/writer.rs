//! GGUF files that may lie: each field as a test wants it.

/// A file in the making.
#[derive(Clone)]
pub(crate) struct File {
    pub magic: [u8; 4],
    pub version: u32,
    /// In place of the true ones.
    pub counts: [Option<u64>; 2],
    pub metadata: Vec<Vec<u8>>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    pub data: usize,
}

/// An entry of the list of tensors.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub name: Vec<u8>,
    /// Innermost first, as in the file.
    pub dims: Vec<u64>,
    /// In place of the number of `dims`.
    pub rank: Option<u32>,
    pub number: u32,
    pub offset: u64,
}

pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const TRUTH: u32 = 7;
pub(crate) const TEXT: u32 = 8;
pub(crate) const LIST: u32 = 9;
pub(crate) const U64: u32 = 10;

/// `a`, 32 × 2 in Q8_0.
pub(crate) fn tensor() -> Tensor {
    Tensor { name: b"a".to_vec(), dims: vec![32, 2], rank: None, number: 8, offset: 0 }
}

/// A valid file of one tensor.
pub(crate) fn good() -> File {
    File {
        magic: *b"GGUF",
        version: 3,
        counts: [None; 2],
        metadata: vec![entry("general.architecture", TEXT, &text(b"flux"))],
        tensors: vec![tensor()],
        alignment: 32,
        data: 68,
    }
}

pub(crate) fn with(change: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut file = good();
    change(&mut file);
    file.bytes()
}

pub(crate) fn with_tensor(change: impl FnOnce(&mut Tensor)) -> Vec<u8> {
    with(|file| change(&mut file.tensors[0]))
}

pub(crate) fn with_entry(key: &str, number: u32, value: &[u8]) -> Vec<u8> {
    with(|file| file.metadata.push(entry(key, number, value)))
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

pub(crate) fn entry(key: &str, number: u32, value: &[u8]) -> Vec<u8> {
    [&text(key.as_bytes()), &number.to_le_bytes()[..], value].concat()
}

/// A list that claims so many values.
pub(crate) fn list(number: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

impl File {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [tensors, entries] = [self.tensors.len(), self.metadata.len()].map(|n| n as u64);
        let mut bytes = [&self.magic[..], &self.version.to_le_bytes()].concat();
        bytes.extend(self.counts[0].unwrap_or(tensors).to_le_bytes());
        bytes.extend(self.counts[1].unwrap_or(entries).to_le_bytes());
        bytes.extend(self.metadata.concat());
        for Tensor { name, dims, rank, number, offset } in &self.tensors {
            bytes.extend(text(name));
            bytes.extend(rank.unwrap_or(dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(number.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment) + self.data, 1);
        bytes
    }
}
