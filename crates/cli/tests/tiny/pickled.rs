//! Files of PyTorch's, as Lightning saves a model.

use super::{Entry, Tensors};

impl Tensors {
    /// The same tensors under `state_dict`, as `torch.save` would write them.
    pub(crate) fn pickled(&self) -> Vec<u8> {
        let tensors: Vec<u8> = self.0.iter().enumerate().flat_map(|(i, entry)| pickled(i, entry)).collect();
        let pickle = [b"\x80\x02}(", &*text("epoch"), b"K\x01", &text("state_dict"), b"}(", &tensors, b"uu."].concat();
        let storages = self.0.iter().enumerate().map(|(i, entry)| (format!("m/data/{i}"), entry.bytes.clone()));
        zip(&[("m/data.pkl".to_owned(), pickle)].into_iter().chain(storages).collect::<Vec<_>>())
    }
}

/// A name and its tensor, which fills the storage of this number.
fn pickled(number: usize, entry: &Entry) -> Vec<u8> {
    let Entry { name, dtype, shape, .. } = entry;
    let kind = match dtype.as_str() {
        "F32" => "FloatStorage",
        "F16" => "HalfStorage",
        "BF16" => "BFloat16Storage",
        "I64" => "LongStorage",
        other => panic!("no storage of {other}"),
    };
    let strides = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect::<Vec<u64>>();
    let id =
        [text("storage"), global("torch", kind), text(&number.to_string()), text("cpu"), int(shape.iter().product())];
    let parts = [
        text(name),
        global("torch._utils", "_rebuild_tensor_v2"),
        b"((".to_vec(),
        id.concat(),
        b"tQK\0".to_vec(),
        tuple(shape),
        tuple(&strides),
        b"\x89".to_vec(),
        global("collections", "OrderedDict"),
        b")RtR".to_vec(),
    ];
    parts.concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(number: u64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &number.to_le_bytes()].concat()
}

fn tuple(numbers: &[u64]) -> Vec<u8> {
    [b"(", &*numbers.iter().copied().flat_map(int).collect::<Vec<_>>(), b"t"].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// An archive of stored entries.
fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let [at, size] = [file.len(), data.len()].map(|n| (n as u32).to_le_bytes());
        let form = [&[0; 14][..], &size, &size, &(name.len() as u32).to_le_bytes()].concat();
        file.extend([b"PK\x03\x04\0\0", &form[2..], name.as_bytes(), data].concat());
        directory.extend([b"PK\x01\x02\0\0", &*form, &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [at, size] = [file.len(), directory.len()].map(|n| (n as u32).to_le_bytes());
    [&*file, &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &at, &[0; 2]].concat()
}
