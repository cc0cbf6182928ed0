//! Files of tensors that PyTorch pickled (`.ckpt`, `.pt`, `.pth`, `.bin`): read as data, and never run.
//!
//! A pickle is a program for a stack machine. Of that machine only what builds tensors, dictionaries and numbers is here; a function or
//! class is a name from a list, and stands for what it would make. Everything else is an error that says where it was found. As with
//! safetensors, opening reads no weights, and checks every range of bytes.

mod archive;
mod fault;
mod globals;
mod legacy;
mod machine;
mod opcodes;
mod tensors;
mod values;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use self::{
    fault::Placed,
    values::{Built, Tensor, Value},
};
use crate::{Error, Manifest, Mapped, Stored, WeightSource};

/// The longest pickle that is read; the largest known checkpoint's has less than 2 MB.
const PICKLE_LIMIT: u64 = 32 << 20;

/// An open file of pickled tensors, under the names that its dictionaries give them, joined by points; those of `state_dict` where it has one.
///
/// Promises that every tensor lies inside its storage, and every storage inside the file.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    label: String,
    bytes: Mapped,
    manifest: Manifest,
    /// The tensors whose values do not follow each other in the file.
    scattered: HashMap<String, Scattered>,
}

/// Where the values of a tensor are that is stored in another order: transposed, or as a part of another.
#[derive(Debug)]
struct Scattered {
    /// Where in the file the first is.
    start: usize,
    /// For each dimension how many there are, and how many bytes from one to the next.
    steps: Vec<[usize; 2]>,
}

/// What a file holds, in whichever format.
struct Contents<'b> {
    pickle: &'b [u8],
    /// Where in the file the pickle begins.
    start: u64,
    built: Built,
    value: Value,
    /// Where in the file each storage begins.
    ranges: Vec<u64>,
}

impl TorchFile {
    /// Opens and checks a file. Takes less than four times its size and 16 MiB of memory, whatever it claims.
    ///
    /// # Errors
    /// [`Error::Pickle`] for whatever is not data of PyTorch's, and for whatever contradicts itself; [`Error::Twice`]; and why a file can't
    /// be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, Mapped::open(path)?)
    }

    /// Checks a file's bytes; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(path, bytes.into())
    }

    fn parse(path: &Path, bytes: Mapped) -> Result<Self, Error> {
        let read = if bytes.starts_with(b"PK") { archive::read(&bytes) } else { legacy::read(&bytes) };
        let (mut manifest, scattered) =
            read.and_then(named).map_err(|Placed { at, fault }| Error::Pickle { path: path.to_owned(), at, fault })?;
        if let Some(name) = manifest.close() {
            return Err(Error::Twice { path: path.to_owned(), name: name.to_owned() });
        }
        Ok(Self { path: path.to_owned(), label: format!("`{}`", path.display()), bytes, manifest, scattered })
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

impl WeightSource for TorchFile {
    fn label(&self) -> &str {
        &self.label
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label.clone() };
        let form = self.manifest.get(name).ok_or_else(missing)?;
        let shape = form.shape.to_vec();
        if let Some(scattered) = self.scattered.get(name) {
            return Stored::of_bytes(form.format, shape, scattered.gathered(&self.bytes, form.format.bytes()));
        }
        let [start, end] = self.manifest.range(name).ok_or_else(missing)?.map(|at| at as usize);
        Stored::within(form.format, shape, &self.bytes, start..end)
    }
}

impl Scattered {
    /// The values in their order, each of `size` bytes; that all lie in the file was checked.
    fn gathered(&self, file: &[u8], size: usize) -> Vec<u8> {
        let mut values = Vec::with_capacity(self.steps.iter().map(|[count, _]| count).product::<usize>() * size);
        gather(file, self.start, &self.steps, size, &mut values);
        values
    }
}

/// Adds the values of the dimensions `steps`, of which the first begins at `at`.
fn gather(file: &[u8], at: usize, steps: &[[usize; 2]], size: usize, values: &mut Vec<u8>) {
    match steps {
        [] => values.extend_from_slice(&file[at..at + size]),
        [[count, step], inner @ ..] => (0..*count).for_each(|i| gather(file, at + i * step, inner, size, values)),
    }
}

/// The names and places of all tensors; the manifest is yet to be closed.
fn named(contents: Contents) -> Result<(Manifest, HashMap<String, Scattered>), Placed> {
    let Contents { pickle, start, built, value, ranges } = contents;
    let (mut manifest, mut scattered, mut room) = (Manifest::default(), HashMap::new(), built.room.clone());
    let mut add = |name: &str, tensor: &Tensor| {
        let is_scattered = !tensor.is_contiguous();
        // Lists grow to the double, beside what they were.
        let shape: Vec<usize> = tensor.shape().iter().map(|&dim| dim as usize).collect();
        room.spend(4 * (name.len() + 16 * shape.len() + 64) as u64 * (1 + u64::from(is_scattered)))?;
        let size = tensor.format.bytes();
        // What lies within a file can be counted in its bytes.
        let first = ranges[tensor.storage as usize] + tensor.offset * size as u64;
        manifest.push(name, tensor.format, &shape, [first, first + tensor.count() * size as u64]);
        if is_scattered {
            // Of a single value there is no next, whatever the stride says.
            let step = |(&dim, &stride): (&usize, &u64)| [dim, if dim > 1 { stride as usize * size } else { 0 }];
            let steps = shape.iter().zip(tensor.strides()).map(step).collect();
            scattered.insert(name.to_owned(), Scattered { start: first as usize, steps });
        }
        Ok(())
    };
    let placed = |Placed { at, fault }: Placed| fault.at(start + at);
    tensors::named(pickle, &built, value, &mut add).map_err(placed)?;
    Ok((manifest, scattered))
}
