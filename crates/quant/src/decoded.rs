//! Tensors of safetensors files whose values take several tensors to be read: bitsandbytes' states, and floats of eight bits with
//! scales.

mod bnb;
mod fp8;
mod numbers;
mod scalings;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use core_tensor::{Branch, Error as TensorError, Form, Format, Manifest, Scaling, Stored, WeightSource};

pub(crate) use self::numbers::{E4M3, E5M2};
pub use self::numbers::{FP4, INT8, NF4};
use crate::{DecodeFault, Error};

/// A source whose quantised tensors can be computed with: each has the name, shape and format of its weights, and what belongs to
/// it, such as scales, is no tensor of its own.
///
/// Known are bitsandbytes' NF4 and FP4, with absmax as floats and nested, its LLM.int8, and floats of eight bits with one scale,
/// one for each row, one for each square of 128, or none. Nothing is copied; weights are scaled when they are unpacked.
///
/// What is one of these by its names and lacks a part, or has an odd one, stays as it is stored; [`Decoded::fault`] tells why.
#[derive(Debug)]
pub struct Decoded<S> {
    source: S,
    manifest: Manifest,
    tensors: BTreeMap<String, Tensor>,
    faults: BTreeMap<String, Arc<DecodeFault>>,
    /// How the names begin of tensors that a marker says have scales, in their order; none begins with another.
    marked: Vec<String>,
}

/// How a tensor is read.
#[derive(Clone, Debug)]
struct Tensor {
    format: Format,
    shape: Vec<usize>,
    scales: Scales,
}

/// Where a tensor's scales are.
#[derive(Clone, Debug)]
enum Scales {
    None,
    Fp8(fp8::Scale),
    Int8(bnb::Rows),
    FourBits(bnb::State),
}

/// What is known of a matrix of eight-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp8 {
    /// Whether it has a scale.
    pub is_scaled: bool,
    /// Whether a marker in the file says that it must have one, which counts for matrices: most converters leave convolutions without.
    pub is_marked: bool,
    /// Whether it is of a convolution.
    pub is_convolution: bool,
}

impl<S: WeightSource> Decoded<S> {
    /// Whether a source has tensors that are to be decoded.
    pub fn is_needed(manifest: &Manifest) -> bool {
        manifest.iter().any(|(name, form)| fp8::is(form.format) || bnb::is_part(name))
    }

    /// Looks at the names and forms of all tensors, and at the few bytes that say how others are to be read.
    ///
    /// # Errors
    /// [`Error::Decode`] for descriptions that can't be read, and for tensors that contradict what is read of them.
    pub fn over(source: S) -> Result<Self, Error> {
        let mut found = Found::default();
        let manifest = source.manifest();
        for (name, form) in manifest.iter() {
            bnb::find(&source, name, form, &mut found)?;
            fp8::find(&source, name, form, &mut found)?;
        }
        bnb::without_scales(manifest, &mut found);
        let Found { tensors, mut hidden, faults } = found;
        let marked = fp8::marked(manifest, &mut hidden);
        let seen = manifest.iter().filter(|(name, _)| !hidden.contains(*name));
        let form = |(name, form): (&str, Form)| match tensors.get(name) {
            Some(Tensor { format, shape, .. }) => (name.to_owned(), *format, shape.clone()),
            None => (name.to_owned(), form.format, form.shape.to_vec()),
        };
        let manifest = seen.map(form).collect();
        Ok(Self { source, manifest, tensors, faults, marked })
    }

    /// Why a tensor is not decoded, where its names say that it should be.
    pub fn fault(&self, name: &str) -> Option<&Arc<DecodeFault>> {
        self.faults.get(name)
    }

    /// What is known of a tensor that is a matrix or a convolution of eight-bit floats; tables of words, which no converter scales, are left out.
    pub fn fp8(&self, name: &str) -> Option<Fp8> {
        let Tensor { shape, scales, .. } = self.tensors.get(name)?;
        let is_scaled = match scales {
            Scales::None => false,
            Scales::Fp8(_) => true,
            Scales::Int8(_) | Scales::FourBits(_) => return None,
        };
        let is_layer = shape.len() >= 2 && !fp8::is_table(name);
        let is_convolution = shape.len() > 2;
        // The only one that a name can begin with is the last that does not stand behind it.
        let last = self.marked.partition_point(|prefix| &**prefix <= name).checked_sub(1);
        let is_marked = !is_convolution && last.is_some_and(|at| name.starts_with(&*self.marked[at]));
        is_layer.then_some(Fp8 { is_scaled, is_marked, is_convolution })
    }
}

/// What was found of a source.
#[derive(Default)]
struct Found {
    tensors: BTreeMap<String, Tensor>,
    /// Tensors that belong to others.
    hidden: BTreeSet<String>,
    /// Why tensors are not decoded that should be.
    faults: BTreeMap<String, Arc<DecodeFault>>,
}

impl Found {
    fn refuse(&mut self, tensor: &str, fault: DecodeFault) {
        self.faults.insert(tensor.to_owned(), fault.into());
    }
}

/// An error about a tensor of a source.
fn refused(source: &dyn WeightSource, tensor: &str, fault: DecodeFault) -> Error {
    Error::Decode { tensor: tensor.to_owned(), source_name: source.label().to_owned(), fault: fault.into() }
}

impl<S: WeightSource> WeightSource for Decoded<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, TensorError> {
        if !self.manifest.contains(name) {
            return Err(TensorError::Missing { name: name.to_owned(), source_name: self.label().to_owned() });
        }
        let stored = self.source.read(name)?;
        let Some(Tensor { format, shape, scales }) = self.tensors.get(name) else { return Ok(stored) };
        let stored = stored.taken_as(*format, shape.clone())?;
        let scaling: Arc<dyn Scaling> = match scales {
            Scales::None => return Ok(stored),
            Scales::Fp8(scale) => scale.read(&self.source, shape)?,
            Scales::Int8(rows) => rows.read(&self.source, shape)?,
            Scales::FourBits(state) => state.read(&self.source)?,
        };
        Ok(stored.scaled(scaling))
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.source.branches(name)
    }
}

/// The values of a tensor of floats that is read whole; none where it has no floats, which was ruled out when it was found.
fn floats(source: &dyn WeightSource, name: &str) -> Result<Vec<f32>, TensorError> {
    let stored = source.read(name)?;
    let format = |found| TensorError::Format { name: name.to_owned(), source_name: source.label().to_owned(), found };
    stored.to_f32().ok_or_else(|| format(stored.format()))
}
