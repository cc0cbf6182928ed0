//! Parameters by name: where they come from, and the views from which layers are built.

mod format;
mod held;
mod manifest;
mod source;
mod stored;
mod survey;

use std::sync::Arc;

use kernels::{Compute, PackedConv};

pub use format::{BlockFormat, Format, Product, Unpack};
pub(crate) use held::{F32, multiply};
use held::{FLOATS, MappedMatrix, packed};
pub use held::{Filter, PackedMatrix, Table, Weight};
pub use manifest::{Form, Manifest};
pub use source::WeightSource;
pub use stored::Stored;
pub use survey::Survey;

use crate::{Device, Error, Tensor, cpu, tensor};

/// What becomes of matrices when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Brought into the order that they are multiplied in, at once: fastest. On the CPU they keep their precision or that which
    /// is computed in, elsewhere they become f32.
    Unpacked,
    /// Left where and as they are stored, and unpacked a panel at a time in each multiplication: slower, no memory but
    /// one panel and the system's file cache.
    Mapped,
}

/// The longest prefix that a mark is looked for behind: it comes back in every message about its tensors.
const LONGEST_PREFIX: usize = 256;

/// The most layers that a stack may have; the deepest model that draws pictures has 57, language models a hundred.
pub const MAX_DEPTH: usize = 256;

/// A view of a [`WeightSource`] under a name prefix, from which layers are built.
#[derive(Clone)]
pub struct Weights<'a> {
    source: &'a dyn WeightSource,
    prefix: String,
    device: Device,
    residency: Residency,
    compute: Compute,
    survey: Option<Survey>,
}

impl<'a> Weights<'a> {
    /// The whole of a source.
    pub fn of(source: &'a dyn WeightSource, device: &Device, residency: Residency) -> Self {
        let (device, compute) = (device.clone(), Compute::F32);
        Self { source, prefix: String::new(), device, residency, compute, survey: None }
    }

    /// The same, for layers that compute in another number format than f32 where they are on the CPU.
    pub fn computed_in(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// A view that reads headers only: layers built from it hold nothing, and what they miss is noted in `survey` instead of
    /// ending the load, as long as the survey takes complaints. A tensor that dimensions are read from still ends it.
    pub fn survey(source: &'a dyn WeightSource, survey: &Survey) -> Self {
        let looking = Self::of(source, &Device::flex(), Residency::Mapped);
        Self { survey: Some(survey.clone()), ..looking }
    }

    /// The part of this view whose names begin with `name.`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// The part under whatever prefix the file puts before `mark`; the view itself where there is no such tensor.
    pub fn before(&self, mark: &str) -> Self {
        if self.shape(mark).is_some() {
            return self.clone();
        }
        let prefix = |(name, _): (&str, Form)| {
            let prefix = name.strip_suffix(mark)?.strip_suffix('.')?;
            (prefix.len() <= LONGEST_PREFIX).then(|| prefix.to_owned())
        };
        let found = self.source.manifest().under(&self.prefix).find_map(prefix);
        found.map_or_else(|| self.clone(), |prefix| self.at(prefix))
    }

    /// The device that layers are built on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number format that layers on the CPU compute products in.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// How to call the source in a message.
    pub fn label(&self) -> &str {
        self.source.label()
    }

    /// A tensor's shape, without reading it; `None` where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.source.manifest().get(&self.full(name)).map(|form| form.shape)
    }

    /// A tensor's shape, where it has `D` dimensions.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Shape`] where the number of dimensions differs or one is 0; what it expects then holds
    /// ones.
    pub fn dims<const D: usize>(&self, name: &str) -> Result<[usize; D], Error> {
        let found = self.shape(name).ok_or_else(|| self.missing(name))?;
        match <[usize; D]>::try_from(found) {
            Ok(dims) if !dims.contains(&0) => Ok(dims),
            Ok(_) | Err(_) => Err(self.mismatch(name, &[1; D], found.to_vec())),
        }
    }

    /// How many numbers stand after this prefix: the depth of a stack of layers. Where one is left out, the stack ends with
    /// that one, so that its tensors are missed and named.
    ///
    /// # Errors
    /// [`Error::TooDeep`] above [`MAX_DEPTH`].
    pub fn depth(&self) -> Result<usize, Error> {
        let mut numbers = std::collections::BTreeSet::new();
        for (name, _) in self.source.manifest().under(&self.prefix) {
            let number = name.split('.').next().and_then(|number| number.parse::<usize>().ok());
            numbers.extend(number.filter(|_| numbers.len() <= MAX_DEPTH));
        }
        if numbers.len() > MAX_DEPTH {
            let stack = self.prefix.trim_end_matches('.').to_owned();
            return Err(Error::TooDeep { stack, source_name: self.label().to_owned(), limit: MAX_DEPTH });
        }
        let consecutive = numbers.iter().enumerate().take_while(|(i, n)| i == *n).count();
        Ok(numbers.len().min(consecutive + 1))
    }

    /// A tensor of exactly this shape, in f32.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`] or [`Error::Dtype`].
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, Error> {
        if let Some(survey) = &self.survey {
            if self.looked_at(name, &shape)?.is_some() {
                survey.holds_floats(&shape);
            }
            // Of one value, as what a header claims may be more than there is memory.
            return Ok(Tensor::zeros([1; D], &self.device));
        }
        let stored = self.stored(name, &shape)?;
        let values = stored.to_f32().ok_or_else(|| self.no_floats(name, stored.format()))?;
        Ok(tensor(values, shape, &self.device))
    }

    /// A vector of `len` values.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor<1>, Error> {
        self.tensor(name, [len])
    }

    /// Vectors of these lengths that are stored as one, one behind the other.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn vectors<const N: usize>(&self, name: &str, lens: [usize; N]) -> Result<[Tensor<1>; N], Error> {
        let all = self.vector(name, lens.iter().sum())?;
        let mut start = 0;
        Ok(lens.map(|len| {
            start += len;
            if self.survey.is_some() { all.clone() } else { all.clone().narrow(0, start - len, len) }
        }))
    }

    /// A matrix, `[out, in]`, unpacked or left packed as this view's residency says.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn weight(&self, name: &str, [d_out, d_in]: [usize; 2]) -> Result<Weight, Error> {
        let [weight] = self.weights(name, [d_out], d_in)?;
        Ok(weight)
    }

    /// Matrices `[out, in]` that are stored as one, one below the other.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn weights<const N: usize>(&self, name: &str, d_out: [usize; N], d_in: usize) -> Result<[Weight; N], Error> {
        let stored = self.looked_at(name, &[d_out.iter().sum(), d_in])?;
        if let Some(survey) = &self.survey {
            if let Some(stored) = stored {
                d_out.iter().for_each(|rows| survey.holds_matrix(stored.format(), *rows, d_in));
            }
            return Ok(d_out.map(|_| Weight::Dense(Tensor::zeros([1, 1], &self.device))));
        }
        let stored = stored.expect(LOOKED_AT);
        let mut start = 0;
        Ok(d_out.map(|rows| {
            let part = start..start + rows;
            start = part.end;
            self.held(stored.rows(part).expect(WHOLE_ROWS))
        }))
    }

    /// A matrix that was looked at.
    fn held(&self, stored: Stored) -> Weight {
        let (on_cpu, [d_out, d_in]) = (cpu::is(&self.device), [stored.shape()[0], stored.shape()[1]]);
        match self.residency {
            Residency::Mapped => {
                Weight::Packed(Arc::new(MappedMatrix { stored, device: self.device.clone(), compute: self.compute }))
            }
            Residency::Unpacked if on_cpu => Weight::Panels(packed(&stored, self.compute)),
            Residency::Unpacked => Weight::Dense(tensor(stored.to_f32().expect(FLOATS), [d_out, d_in], &self.device)),
        }
    }

    /// The parameters of a convolution, `[c_out, c_in, kernel, kernel]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn filter(&self, name: &str, c_out: usize, c_in: usize, kernel: usize) -> Result<Filter, Error> {
        let shape = [c_out, c_in, kernel, kernel];
        if let Some(survey) = &self.survey {
            if self.looked_at(name, &shape)?.is_some() {
                survey.holds_filter(c_out, c_in, kernel);
            }
            return Ok(Filter::Dense(Tensor::zeros([1; 4], &self.device)));
        }
        if !cpu::is(&self.device) {
            return self.tensor(name, shape).map(Filter::Dense);
        }
        let pack = |values: kernels::Values| PackedConv::pack(cpu::isa(), self.compute, [c_out, c_in, kernel], values);
        let stored = self.looked_at(name, &shape)?.expect(LOOKED_AT);
        Ok(Filter::Panels(stored.with_values(pack).expect(FLOATS)))
    }

    /// A table of which single rows are looked up; it stays as it is stored.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table, Error> {
        let hollow = || Stored::hollow(Format::F32, shape.to_vec());
        let stored = self.looked_at(name, &shape)?.unwrap_or_else(hollow);
        Ok(Table { stored, device: self.device.clone() })
    }

    fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored, Error> {
        let stored = self.source.read(&self.full(name))?;
        if stored.shape() == shape { Ok(stored) } else { Err(self.mismatch(name, shape, stored.shape().to_vec())) }
    }

    /// A tensor whose form is right and whose values are not read yet. A survey notes what is wrong and goes on with nothing.
    fn looked_at(&self, name: &str, shape: &[usize]) -> Result<Option<Stored>, Error> {
        let found = self.stored(name, shape).and_then(|stored| {
            if !stored.format().is_float() {
                return Err(self.no_floats(name, stored.format()));
            }
            stored.rows(0..0)?;
            Ok(stored)
        });
        match (found, &self.survey) {
            (Err(error), Some(survey)) => survey.note(error).map(|()| None),
            (found, _) => found.map(Some),
        }
    }

    fn no_floats(&self, name: &str, found: Format) -> Error {
        Error::Format { name: self.full(name), source_name: self.label().to_owned(), found }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn missing(&self, name: &str) -> Error {
        Error::Missing { name: self.full(name), source_name: self.label().to_owned() }
    }

    fn mismatch(&self, name: &str, expected: &[usize], found: Vec<usize>) -> Error {
        Error::Shape { name: self.full(name), source_name: self.label().to_owned(), expected: expected.to_vec(), found }
    }
}

/// Why the rows of a matrix that was looked at can be cut.
pub(super) const WHOLE_ROWS: &str =
    "whether a row is a whole number of blocks was checked when the tensor was looked at";

/// Why a tensor that was looked at is there.
const LOOKED_AT: &str = "only a survey goes on without a tensor";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Tensors by name.
    pub(crate) struct Memory {
        tensors: Vec<(String, Stored)>,
        manifest: Manifest,
    }

    impl Memory {
        pub(crate) fn of<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Stored)>) -> Self {
            let tensors: Vec<(String, Stored)> = tensors.into_iter().map(|(name, s)| (name.into(), s)).collect();
            let manifest = tensors.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
            Self { tensors, manifest }
        }
    }

    impl WeightSource for Memory {
        fn label(&self) -> &str {
            "memory"
        }
        fn manifest(&self) -> &Manifest {
            &self.manifest
        }
        fn read(&self, name: &str) -> Result<Stored, Error> {
            let missing = || Error::Missing { name: name.to_owned(), source_name: "memory".to_owned() };
            self.tensors.iter().find(|(n, _)| *n == name).map(|(_, s)| s.clone()).ok_or_else(missing)
        }
    }

    pub(crate) fn halves(format: Format, bits: &[u16], shape: Vec<usize>) -> Stored {
        Stored::of_bytes(format, shape, bits.iter().flat_map(|b| b.to_le_bytes()).collect()).unwrap()
    }

    #[test]
    fn a_wrong_request_names_what_is_there() {
        let source =
            Memory::of([("a.w", Stored::of(&[0.0; 6], vec![2, 3])), ("a.q", halves(Format::I16, &[0], vec![1]))]);
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).at("a");
        let message = |e: Error| e.to_string();
        assert_eq!(message(weights.vector("x", 1).err().unwrap()), "tensor `a.x` is missing from memory");
        let shape = weights.tensor("w", [3, 2]).err().unwrap();
        assert_eq!(message(shape), "tensor `a.w` of memory has shape [2, 3], the model needs [3, 2]");
        let format = weights.vector("q", 1).err().unwrap();
        assert_eq!(message(format), "tensor `a.q` of memory is stored as I16, expected F64, F32, F16 or BF16");
    }

    #[test]
    fn depth_ends_with_the_first_layer_that_is_left_out() {
        let s = || Stored::of(&[0.0], vec![1]);
        let source = Memory::of([("b.0.w", s()), ("b.1.w", s()), ("b.3.w", s()), ("c.0", s())]);
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
        let depth = |stack| weights.at(stack).depth().unwrap();
        assert_eq!((depth("b"), depth("c"), depth("d")), (3, 1, 0));
    }

    #[test]
    fn a_stack_deeper_than_any_model_is_an_error() {
        for (layers, deep) in [(MAX_DEPTH, false), (MAX_DEPTH + 1, true)] {
            let source = Memory::of((0..layers).map(|i| (format!("b.{i}.w"), Stored::of(&[0.0], vec![1]))));
            let depth = Weights::of(&source, &Device::flex(), Residency::Mapped).at("b").depth();
            assert_eq!(matches!(depth, Err(Error::TooDeep { .. })), deep, "{depth:?}");
        }
    }

    #[test]
    fn a_survey_notes_every_fault_and_allocates_nothing_of_what_a_header_claims() {
        // given a file of a short vector, and one of integers
        let source = Memory::of([("v", Stored::of(&[0.0], vec![1])), ("q", halves(Format::I16, &[0], vec![1]))]);
        let survey = Survey::default();
        let weights = Weights::survey(&source, &survey);
        // when it is asked for more than any machine holds
        assert!(weights.tensor("v", [1 << 40, 1 << 20]).is_ok());
        assert!(weights.weight("m", [1 << 40, 1 << 20]).is_ok());
        assert!(weights.vector("q", 1).is_ok());
        // then each fault is told
        let complaints = survey.complaints();
        assert!(
            matches!(complaints[..], [Error::Shape { .. }, Error::Missing { .. }, Error::Format { .. }]),
            "{complaints:?}"
        );
    }
}
