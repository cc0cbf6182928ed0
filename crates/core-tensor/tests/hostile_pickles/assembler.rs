//! Pickles and archives, piece by piece, as no writer would put them together.

/// An entry of a zip archive, and what its headers say of it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub name: &'static str,
    /// What it is called where it lies.
    pub local: &'static str,
    pub data: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    /// As they lie in the archive, and unpacked.
    pub sizes: [u32; 2],
    /// Where the directory says that it begins, if elsewhere.
    pub start: Option<u32>,
}

pub(crate) fn entry(name: &'static str, data: Vec<u8>) -> Entry {
    let size = data.len() as u32;
    Entry { name, local: name, data, flags: 0, method: 0, sizes: [size; 2], start: None }
}

/// A zip archive that counts so many entries more than it has.
pub(crate) fn zip_counting(entries: &[Entry], more: u16) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, local, data, flags, method, sizes, start } in entries {
        let at = start.unwrap_or(file.len() as u32);
        let [stored, size] = sizes.map(u32::to_le_bytes);
        let form = [&flags.to_le_bytes()[..], &method.to_le_bytes(), &[0; 8], &stored, &size].concat();
        file.extend(
            [&b"PK\x03\x04\x0a\0"[..], &form, &(local.len() as u32).to_le_bytes(), local.as_bytes(), data].concat(),
        );
        let place = [&[0; 8][..], &at.to_le_bytes()].concat();
        directory
            .extend([b"PK\x01\x02\x0a\0\x0a\0", &*form, &(name.len() as u32).to_le_bytes(), &[0; 2], &place].concat());
        directory.extend(name.as_bytes());
    }
    let count = (entries.len() as u16 + more).to_le_bytes();
    let [at, size] = [file.len(), directory.len()].map(|n| (n as u32).to_le_bytes());
    file.extend(directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &at, &[0; 2]].concat());
    file
}

pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_counting(entries, 0)
}

/// An archive as PyTorch writes it, of a pickle and one storage of 24 bytes.
pub(crate) fn torch(pickle: Vec<u8>) -> Vec<u8> {
    zip(&[entry("m/data.pkl", pickle), entry("m/data/0", vec![0; 24])])
}

/// An archive whose pickle does this.
pub(crate) fn does(body: impl AsRef<[u8]>) -> Vec<u8> {
    torch(pickle(body))
}

/// An archive of a dictionary with this tensor.
pub(crate) fn holds(tensor: Vec<u8>) -> Vec<u8> {
    does(dict(&[(text("w"), tensor)]))
}

pub(crate) fn pickle(body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"\x80\x02", body.as_ref(), b"."].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn int(number: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &number.to_le_bytes()].concat()
}

pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &*items.concat(), b"t"].concat()
}

pub(crate) fn call(module: &str, name: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    [global(module, name), tuple(arguments), b"R".to_vec()].concat()
}

pub(crate) fn dict(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    [b"}(", &*entries, b"u"].concat()
}

pub(crate) fn storage(kind: &str, key: &str, count: i64) -> Vec<u8> {
    let id = tuple(&[text("storage"), global("torch", kind), text(key), text("cpu"), int(count)]);
    [id, b"Q".to_vec()].concat()
}

/// The storage of [`torch`].
pub(crate) fn floats() -> Vec<u8> {
    storage("FloatStorage", "0", 6)
}

pub(crate) fn tensor(storage: Vec<u8>, offset: i64, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let [dims, strides] = [dims, strides].map(|numbers| tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>()));
    let hooks = call("collections", "OrderedDict", &[]);
    call("torch._utils", "_rebuild_tensor_v2", &[storage, int(offset), dims, strides, b"\x89".to_vec(), hooks])
}

/// A tensor of bytes that says itself what they are.
pub(crate) fn typed(storage: Vec<u8>, dtype: Vec<u8>) -> Vec<u8> {
    let one = || tuple(&[int(1)]);
    let rest = [b"\x89".to_vec(), b"N".to_vec(), dtype];
    call("torch._utils", "_rebuild_tensor_v3", &[&[storage, int(0), one(), one()][..], &rest].concat())
}

/// The tensor of a good file.
pub(crate) fn good() -> Vec<u8> {
    tensor(floats(), 0, &[2, 3], &[3, 1])
}

/// A file of the old format: the version, the byte order, what it holds, the keys of its storages, and these.
pub(crate) struct Legacy {
    pub version: Vec<u8>,
    pub little: &'static [u8],
    pub value: Vec<u8>,
    pub keys: Vec<u8>,
    pub storages: Vec<u8>,
}

impl Legacy {
    pub(crate) fn good() -> Self {
        let storages = [&6u64.to_le_bytes()[..], &[0; 24]].concat();
        let value = dict(&[(text("w"), good())]);
        Self { version: b"M\xe9\x03".to_vec(), little: b"\x88", value, keys: keys(&["0"]), storages }
    }

    pub(crate) fn file(self) -> Vec<u8> {
        let system = dict(&[(text("protocol_version"), int(1001)), (text("little_endian"), self.little.to_vec())]);
        let magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
        let pickles = [pickle(magic), pickle(self.version), pickle(system), pickle(self.value), pickle(self.keys)];
        [pickles.concat(), self.storages].concat()
    }
}

pub(crate) fn keys(keys: &[&str]) -> Vec<u8> {
    [&b"]("[..], &keys.iter().flat_map(|key| text(key)).collect::<Vec<_>>(), b"e"].concat()
}
