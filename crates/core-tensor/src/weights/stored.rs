//! A tensor as it lies in its file.

use std::{
    borrow::Cow,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use half::slice::HalfBitsSliceExt;
use kernels::{Compute, GROUP, IntegerSource, Integers};
use rayon::prelude::*;

use super::{
    Format,
    format::{IntegerForm, Unpack, numbers},
    segment::{AT_ONCE, Scaled, Scaling, Segment},
};
use crate::{Error, Mapped, cuda};

/// A tensor in the number format of its source, row-major, little-endian; its bytes may still be in a mapped file.
///
/// Promises that its bytes are whole blocks of its format, as many as its shape needs.
#[derive(Clone, Debug)]
pub struct Stored {
    format: Format,
    shape: Vec<usize>,
    /// One after the other, each of whole blocks; more than one where a tensor was put together from several.
    pub(super) segments: Vec<Segment>,
}

impl Stored {
    /// A part of a file's bytes; they are not copied.
    ///
    /// # Errors
    /// [`Error::Size`] where they are not the bytes of such a tensor, or not all in the file.
    pub fn within(format: Format, shape: Vec<usize>, bytes: &Mapped, range: Range<usize>) -> Result<Self, Error> {
        let found = bytes.get(range.clone()).map(|bytes| bytes.len() as u64);
        if found.is_none() || format.size_of(&shape) != found {
            return Err(Error::Size { format, shape, found });
        }
        Ok(Self { format, shape, segments: vec![Segment { bytes: bytes.clone(), range, scaling: None }] })
    }

    /// The same bytes in another format and shape.
    ///
    /// # Errors
    /// [`Error::Size`] where they are not the bytes of such a tensor.
    pub fn taken_as(self, format: Format, shape: Vec<usize>) -> Result<Self, Error> {
        let found = Some(self.byte_len() as u64);
        match format.size_of(&shape) == found
            && self.segments.iter().all(|s| s.range.len().is_multiple_of(format.bytes()))
        {
            true => Ok(Self { format, shape, ..self }),
            false => Err(Error::Size { format, shape, found }),
        }
    }

    /// The same, whose weights are scaled once they are unpacked.
    #[must_use]
    pub fn scaled(mut self, by: Arc<dyn Scaling>) -> Self {
        let (per_block, size) = (self.format.weights(), self.format.bytes());
        let mut first = 0;
        for segment in &mut self.segments {
            segment.scaling = Some(Scaled { by: by.clone(), first });
            first += segment.range.len() / size * per_block;
        }
        self
    }

    /// A tensor of bytes that were made rather than read.
    ///
    /// # Errors
    /// [`Error::Size`] where they are not the bytes of such a tensor.
    pub fn of_bytes(format: Format, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, Error> {
        let range = 0..bytes.len();
        Self::within(format, shape, &bytes.into(), range)
    }

    /// A tensor of values that were computed rather than read.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    pub fn of(values: &[f32], shape: Vec<usize>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values for shape {shape:?}");
        let bytes: Vec<u8> = match cfg!(target_endian = "little") {
            true => bytemuck::cast_slice(values).to_vec(),
            false => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let range = 0..bytes.len();
        Self { format: Format::F32, shape, segments: vec![Segment { bytes: bytes.into(), range, scaling: None }] }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A copy of the stored bytes, without the scales of a tensor that has some.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.segments.iter().flat_map(Segment::bytes).copied().collect()
    }

    /// Some of the stored bytes, copied only where they are in several places.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn bytes_of(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        match self.segments.as_slice() {
            [one] => Cow::Borrowed(&one.bytes()[range]),
            _ => Cow::Owned(self.to_bytes()[range].to_vec()),
        }
    }

    /// How many bytes it takes as it is stored.
    pub fn byte_len(&self) -> usize {
        self.segments.iter().map(|segment| segment.range.len()).sum()
    }

    /// The same elements under another shape.
    ///
    /// # Panics
    /// If the shapes differ in size.
    pub fn reshape(mut self, shape: Vec<usize>) -> Self {
        assert_eq!(self.shape.iter().product::<usize>(), shape.iter().product::<usize>(), "reshape to {shape:?}");
        self.shape = shape;
        self
    }

    /// Rows `rows` along the first dimension, as they are stored.
    ///
    /// # Errors
    /// [`Error::Rows`] where the range does not begin and end with a block.
    ///
    /// # Panics
    /// If the range leaves the tensor, or the tensor has no dimension.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, Error> {
        let height = self.shape[0];
        assert!(rows.start <= rows.end && rows.end <= height, "rows {rows:?} of {height}");
        let (mut skip, mut take) = (self.size_of_rows(rows.start)?, self.size_of_rows(rows.len())?);
        let mut parts = Vec::new();
        let weights = |bytes: usize| bytes / self.format.bytes() * self.format.weights();
        for Segment { bytes, range, scaling } in &self.segments {
            let start = range.start + skip.min(range.len());
            let end = start + take.min(range.end - start);
            skip -= start - range.start;
            take -= end - start;
            if start < end {
                let from = |Scaled { by, first }: Scaled| Scaled { by, first: first + weights(start - range.start) };
                parts.push(Segment { bytes: bytes.clone(), range: start..end, scaling: scaling.clone().map(from) });
            }
        }
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Ok(Self { format: self.format, shape, segments: parts })
    }

    /// Bytes of so many rows along the first dimension: within the tensor's own, which were counted when it was made.
    fn size_of_rows(&self, rows: usize) -> Result<usize, Error> {
        let (width, per_block) = (self.shape[1..].iter().product::<usize>(), self.format.weights());
        if !(rows * width).is_multiple_of(per_block) {
            return Err(Error::Rows { format: self.format, weights: width, per_block });
        }
        Ok(rows * width / per_block * self.format.bytes())
    }

    /// Lets the system have the memory in which the tensor's file was read, as it is not read again soon.
    pub(super) fn give_back(&self) {
        self.segments.iter().for_each(|segment| segment.bytes.give_back(segment.range.clone()));
    }

    /// Tensors one below the other, without copying them; `None` unless there are some, of one format and of one shape but
    /// for the first dimension.
    pub fn stacked(parts: &[Stored]) -> Option<Self> {
        let first = parts.first()?;
        let fits =
            |p: &Stored| p.format == first.format && p.shape.get(1..) == first.shape.get(1..) && !p.shape.is_empty();
        if !parts.iter().all(fits) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().try_fold(0usize, |n, p| n.checked_add(p.shape[0]))?;
        let segments = parts.iter().flat_map(|p| p.segments.clone()).collect();
        Some(Self { format: first.format, shape, segments })
    }

    /// All values as f32, F64 rounded to it; `None` where the format has none that a model is computed with.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.format.unpack().map(|unpack| self.unpacked(unpack))
    }

    fn unpacked(&self, unpack: Unpack) -> Vec<f32> {
        let weights = |bytes: &[u8]| bytes.len() / self.format.bytes() * self.format.weights();
        let mut values = vec![0.0; self.segments.iter().map(|segment| weights(segment.bytes())).sum()];
        let mut rest = &mut *values;
        for segment in &self.segments {
            let (part, behind) = rest.split_at_mut(weights(segment.bytes()));
            segment.unpack(self.format, unpack, part);
            rest = behind;
        }
        values
    }

    /// Writes the values from number `first` on, as many as `to` has room for.
    ///
    /// # Panics
    /// If the tensor has not so many, or none that a model is computed with.
    pub fn read(&self, first: usize, to: &mut [f32]) {
        let unpack = self.format.unpack().expect(FLOATS);
        let (mut start, mut to) = (first, to);
        for segment in &self.segments {
            let held = self.weights_of(segment);
            if start >= held {
                start -= held;
                continue;
            }
            let (part, rest) = to.split_at_mut((held - start).min(to.len()));
            segment.read(self.format, unpack, start, part);
            (start, to) = (0, rest);
            if to.is_empty() {
                return;
            }
        }
        assert!(to.is_empty(), "values that the tensor does not have");
    }

    /// How the weights of a matrix are read as integers; `None` where they are none, or a row is not made of whole blocks and groups.
    pub(super) fn integers(&self) -> Option<IntegerForm> {
        let &[_, width] = &*self.shape else { return None };
        let has_groups = || self.segments.iter().all(|segment| segment.has_groups_of(self.format, width));
        let is_scaled = self.is_scaled();
        self.format.integers_in_rows_of(width).filter(|form| has_groups() && (!is_scaled || form.group == GROUP))
    }

    /// Whether its weights are scaled once they are unpacked.
    pub(super) fn is_scaled(&self) -> bool {
        self.segments.iter().any(|segment| segment.scaling.is_some())
    }

    /// How many weights a segment has.
    pub(super) fn weights_of(&self, segment: &Segment) -> usize {
        segment.range.len() / self.format.bytes() * self.format.weights()
    }

    /// Whether every byte is 0, which the values of a trained tensor never are; an empty tensor has none that is.
    ///
    /// Looks at the start, the middle and the end of the tensor first, so that one that holds values is hardly read. What is read
    /// beyond that comes off `budget`, in bytes; where that is spent, the three samples decide.
    pub fn is_zero(&self, budget: &mut usize) -> bool {
        const SAMPLE: usize = 4096;
        let zeros = |bytes: &[u8]| self.are_zeros(bytes);
        let sampled = |bytes: &[u8]| {
            let [start, middle, end] = [0, bytes.len() / 2, bytes.len().saturating_sub(SAMPLE)]
                .map(|start| start / 8 * 8)
                .map(|start| &bytes[start..bytes.len().min(start + SAMPLE)]);
            zeros(start) && zeros(middle) && zeros(end)
        };
        if self.byte_len() == 0 || !self.segments.iter().all(|segment| sampled(segment.bytes())) {
            return false;
        }
        self.segments.iter().all(|segment| {
            let bytes = segment.bytes();
            let read = bytes.len().min(*budget);
            *budget -= read;
            zeros(&bytes[..read])
        })
    }

    /// Whether the second half of the tensor holds nothing but zeros; what is read comes off `budget`, in bytes, and nothing is told
    /// where that is spent.
    pub fn ends_in_zeros(&self, budget: &mut usize) -> bool {
        let Some(bytes) = self.segments.last().map(|segment| segment.bytes()) else { return false };
        // Whole values from the middle on, from the end of which on a tensor with values there is hardly read.
        let half = &bytes[(bytes.len() / 2).next_multiple_of(8).min(bytes.len())..];
        let last = half.len().saturating_sub(64) / 8 * 8;
        if half.is_empty() || !self.are_zeros(&half[last..]) || half.len() > *budget {
            return false;
        }
        *budget -= half.len();
        self.are_zeros(half)
    }

    /// Whether no value is NaN or infinite as f32; true of a format that a model is not computed with. Reads all of it.
    pub fn is_finite(&self) -> bool {
        const BLOCKS: usize = 4096;
        let Some(unpack) = self.format.unpack() else { return true };
        let (bytes, weights) = (self.format.bytes(), self.format.weights());
        let mut values = vec![0.0; BLOCKS * weights];
        self.segments().flat_map(|segment| segment.chunks(BLOCKS * bytes)).all(|chunk| {
            let values = &mut values[..chunk.len() / bytes * weights];
            unpack(chunk, values);
            values.iter().all(|value| value.is_finite())
        })
    }

    /// Whether these bytes, which begin with a value's first, are zeros of either sign.
    fn are_zeros(&self, bytes: &[u8]) -> bool {
        let width = self.format.bytes();
        if !self.format.is_float() || self.format.weights() > 1 {
            return bytes.iter().all(|&byte| byte == 0);
        }
        let is_zero = |value: &[u8]| value.iter().enumerate().all(|(i, &b)| b == 0 || (b == 0x80 && i + 1 == width));
        bytes.iter().all(|&byte| byte == 0) || bytes.chunks(width).all(is_zero)
    }
}

impl IntegerSource for Stored {
    fn read(&self, row: usize, first: usize, to: Integers) {
        let form = self.format.integers().expect("a matrix whose weights are integers");
        let mut start = row * self.shape[1] + first;
        for segment in &self.segments {
            let held = self.weights_of(segment);
            if start < held {
                // Rows are in one piece.
                return segment.read_integers(self.format, form, start, to);
            }
            start -= held;
        }
        panic!("row {row} of a matrix {:?}", self.shape);
    }

    fn group(&self) -> usize {
        self.format.integers().map_or(GROUP, |form| form.group)
    }

    fn codes(&self) -> RangeInclusive<i16> {
        self.format.integers().map_or(0..=0, IntegerForm::codes)
    }

    fn has_shifts(&self) -> bool {
        self.format.integers().is_some_and(|form| form.has_shifts)
    }
}

impl Stored {
    /// The bytes, in whole rows.
    pub(super) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Segment::bytes)
    }

    /// Writes all values as a device has them that computes in a number format.
    pub(super) fn write(&self, compute: Compute, to: &mut [u8]) {
        if self.is_plain() {
            return self.with_values(|values| cuda::write(values, compute, to)).expect(FLOATS);
        }
        let width = to.len() / self.shape.iter().product::<usize>().max(1);
        to.par_chunks_mut(AT_ONCE * width).enumerate().for_each(|(i, to)| {
            let mut values = vec![0.0; to.len() / width];
            self.read(i * AT_ONCE, &mut values);
            cuda::write(kernels::Values::F32(&values), compute, to);
        });
    }

    /// Whether its values are those that are stored.
    fn is_plain(&self) -> bool {
        [Format::F32, Format::F16, Format::BF16].contains(&self.format) && !self.is_scaled()
    }

    /// Passes on the values as they are stored, of a format that kernels don't read as F32; `None` where the format has none that a
    /// model is computed with.
    pub(super) fn with_values<T>(&self, take: impl FnOnce(kernels::Values) -> T) -> Option<T> {
        let unpack = self.format.unpack()?;
        if !self.is_plain() {
            return Some(take(kernels::Values::F32(&self.unpacked(unpack))));
        }
        let bytes = match self.segments.as_slice() {
            [one] => Cow::Borrowed(one.bytes()),
            _ => Cow::Owned(self.to_bytes()),
        };
        let halves = || numbers(&bytes, u16::from_le_bytes);
        Some(if self.format == Format::F32 {
            take(kernels::Values::F32(&numbers(&bytes, f32::from_le_bytes)))
        } else if self.format == Format::F16 {
            take(kernels::Values::F16(halves().reinterpret_cast()))
        } else {
            take(kernels::Values::Bf16(halves().reinterpret_cast()))
        })
    }
}

/// Why the values of a tensor that was looked at can be read.
pub(super) const FLOATS: &str = "the format was checked when the tensor was looked at";

/// Why the rows of a tensor that was looked at can be cut.
pub(super) const WHOLE_ROWS: &str =
    "whether a row is a whole number of blocks was checked when the tensor was looked at";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tests::halves;

    #[test]
    fn half_precisions_unpack_exactly() {
        let f16 = halves(Format::F16, &[0x3c00, 0xc000, 0x3555], vec![3]);
        assert_eq!(f16.to_f32().unwrap(), [1.0, -2.0, 0.333_251_95]);
        let bf16 = halves(Format::BF16, &[0x3f80, 0xc000, 0x3eab], vec![3]);
        assert_eq!(bf16.to_f32().unwrap(), [1.0, -2.0, 0.333_984_38]);
    }

    #[test]
    fn doubles_are_read_as_the_nearest_floats() {
        let values = [1.0f64, -0.1, 1e300];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let stored = Stored::of_bytes(Format::F64, vec![3], bytes).unwrap();
        assert_eq!(stored.to_f32().unwrap(), [1.0, -0.1, f32::INFINITY]);
        let packed = stored.with_values(|v| matches!(v, kernels::Values::F32([1.0, _, f32::INFINITY])));
        assert_eq!(packed, Some(true));
    }

    #[test]
    fn a_value_that_is_no_number_is_found_wherever_it_stands() {
        for (at, value) in [(0, f32::NAN), (4095, f32::INFINITY), (4096, f32::NEG_INFINITY), (9999, f32::NAN)] {
            let mut values = vec![1.0; 10_000];
            assert!(Stored::of(&values, vec![10_000]).is_finite());
            values[at] = value;
            assert!(!Stored::of(&values, vec![10_000]).is_finite(), "{at}");
        }
        assert!(halves(Format::F16, &[0x7bff, 0xfbff], vec![2]).is_finite());
        assert!(!halves(Format::F16, &[0, 0x7c00], vec![2]).is_finite());
        assert!(!halves(Format::BF16, &[0x7fc0, 0], vec![2]).is_finite());
        assert!(Stored::of_bytes(Format::I64, vec![1], vec![0xff; 8]).unwrap().is_finite());
    }

    #[test]
    fn a_tensor_is_zero_only_where_each_byte_is() {
        let zeros = vec![0.0; 100_000];
        let is_zero = |values: &[f32], mut budget: usize| Stored::of(values, vec![values.len()]).is_zero(&mut budget);
        assert!(is_zero(&zeros, usize::MAX) && !is_zero(&[], usize::MAX));
        for at in [0, 1, 30_000, 50_000, 80_000, 99_999] {
            let mut values = zeros.clone();
            values[at] = 1.0;
            assert!(!is_zero(&values, usize::MAX), "{at}");
        }
        // Without a budget the samples decide.
        let mut values = zeros;
        values[30_000] = 1.0;
        assert!(is_zero(&values, 0));
    }

    #[test]
    fn bytes_are_taken_as_another_format_where_they_are_as_many() {
        let bytes = Stored::of_bytes(Format::U8, vec![6, 1], vec![0; 6]).unwrap();
        assert_eq!(bytes.clone().taken_as(Format::F4, vec![3, 4]).unwrap().shape(), [3, 4]);
        assert!(matches!(bytes.taken_as(Format::F32, vec![2]), Err(Error::Size { found: Some(6), .. })));
    }

    #[test]
    fn rows_are_cut_between_blocks_only() {
        let stored = Stored::of_bytes(Format::F4, vec![4, 3], vec![0; 6]).unwrap();
        assert!(matches!(stored.rows(0..1), Err(Error::Rows { weights: 3, per_block: 2, .. })));
        let stored = Stored::of_bytes(Format::F4, vec![3, 4], vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(stored.rows(1..3).unwrap().to_bytes(), [3, 4, 5, 6]);
    }

    #[test]
    fn bytes_that_are_not_a_tensors_are_refused() {
        let bytes = Mapped::from(vec![0; 8]);
        assert!(Stored::within(Format::F32, vec![2], &bytes, 0..8).is_ok());
        for (shape, range) in
            [(vec![2], 0..7), (vec![3], 0..12), (vec![1], Range { start: 8, end: 4 }), (vec![usize::MAX, 2], 0..8)]
        {
            let error = Stored::within(Format::F32, shape.clone(), &bytes, range).unwrap_err();
            assert!(matches!(error, Error::Size { .. }), "{shape:?}");
        }
        assert!(Stored::of_bytes(Format::F4, vec![3], vec![0; 2]).is_err());
    }
}
