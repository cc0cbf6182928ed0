//! A tensor as it lies in its file.

use std::{
    borrow::Cow,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use half::slice::HalfBitsSliceExt;
use kernels::{GROUP, IntegerSource, Integers};

pub(super) use super::segment::FLOATS;
use super::{
    Format,
    format::{IntegerForm, numbers},
    segment::{AT_ONCE, Scaled, Scaling, Segment},
};
use crate::{Error, Mapped};

/// A tensor in the number format of its source, row-major, little-endian; its bytes may still be in a mapped file.
///
/// Promises that its bytes are whole blocks of its format, as many as its shape needs. What was put together from tensors of several
/// formats is F32 to whoever reads it, and stays as it is stored until then.
#[derive(Clone, Debug)]
pub struct Stored {
    format: Format,
    shape: Vec<usize>,
    /// One after the other, each of whole blocks; more than one where a tensor was put together from several. Where one is of another
    /// format than the tensor, all are of floats and the tensor is F32.
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
        Ok(Self { format, shape, segments: vec![Segment { format, bytes: bytes.clone(), range, scaling: None }] })
    }

    /// The same bytes in another format and shape.
    ///
    /// # Errors
    /// [`Error::Size`] where they are not the bytes of such a tensor.
    pub fn taken_as(mut self, format: Format, shape: Vec<usize>) -> Result<Self, Error> {
        let found = Some(self.byte_len() as u64);
        let is_whole = |s: &Segment| s.format == self.format && s.range.len().is_multiple_of(format.bytes());
        if format.size_of(&shape) != found || !self.segments.iter().all(is_whole) {
            return Err(Error::Size { format, shape, found });
        }
        self.segments.iter_mut().for_each(|segment| segment.format = format);
        Ok(Self { format, shape, ..self })
    }

    /// The same, whose weights are scaled once they are unpacked.
    #[must_use]
    pub fn scaled(mut self, by: Arc<dyn Scaling>) -> Self {
        let mut first = 0;
        for segment in &mut self.segments {
            segment.scaling = Some(Scaled { by: by.clone(), first });
            first += segment.weights();
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
        let (range, format) = (0..bytes.len(), Format::F32);
        Self { format, shape, segments: vec![Segment { format, bytes: bytes.into(), range, scaling: None }] }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A copy of the bytes in its format, without the scales of a tensor that has some.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes_of(0..self.byte_len()).into_owned()
    }

    /// Some of the bytes in its format, copied only where they are in several places or stored in several formats.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn bytes_of(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        match self.segments.as_slice() {
            _ if self.is_of_several_formats() => {
                let (size, end) = (self.format.bytes(), range.end);
                let mut values = vec![0.0; end.div_ceil(size) - range.start / size];
                self.read(range.start / size, &mut values);
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                Cow::Owned(bytes.skip(range.start % size).take(range.len()).collect())
            }
            [one] => Cow::Borrowed(&one.bytes()[range]),
            several => {
                let (mut skip, mut bytes) = (range.start, Vec::with_capacity(range.len()));
                for segment in several {
                    let rest = &segment.bytes()[skip.min(segment.range.len())..];
                    skip -= segment.range.len() - rest.len();
                    bytes.extend_from_slice(&rest[..rest.len().min(range.len() - bytes.len())]);
                }
                assert_eq!(bytes.len(), range.len(), "bytes {range:?} of {}", self.byte_len());
                Cow::Owned(bytes)
            }
        }
    }

    /// How many bytes it takes in its format.
    pub fn byte_len(&self) -> usize {
        self.segments.iter().map(|segment| segment.weights() / self.format.weights() * self.format.bytes()).sum()
    }

    /// Whether it was put together from tensors of several formats.
    fn is_of_several_formats(&self) -> bool {
        self.segments.iter().any(|segment| segment.format != self.format)
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
        // Within the tensor's own weights, which were counted when it was made.
        let width = self.shape[1..].iter().product::<usize>();
        let (mut skip, mut take) = (rows.start * width, rows.len() * width);
        let mut segments = Vec::new();
        for segment in &self.segments {
            let start = skip.min(segment.weights());
            let end = start + take.min(segment.weights() - start);
            skip -= start;
            take -= end - start;
            if start < end {
                let (format, per_block) = (segment.format, segment.format.weights());
                let cut = || Error::Rows { format, weights: width, per_block };
                segments.push(segment.part(start..end).ok_or_else(cut)?);
            }
        }
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Ok(Self { format: self.format, shape, segments })
    }

    /// Lets the system have the memory in which the tensor's file was read, as it is not read again soon.
    pub(super) fn give_back(&self) {
        self.segments.iter().for_each(|segment| segment.bytes.give_back(segment.range.clone()));
    }

    /// Tensors one below the other, without copying them; `None` unless there are some, of one shape but for the first dimension, and of
    /// formats that have one [in common](Format::in_common).
    pub fn stacked(parts: &[Stored]) -> Option<Self> {
        let first = parts.first()?;
        let fits = |p: &Stored| p.shape.get(1..) == first.shape.get(1..) && !p.shape.is_empty();
        if !parts.iter().all(fits) {
            return None;
        }
        let format = Format::in_common(parts.iter().map(|part| part.format))?;
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().try_fold(0usize, |n, p| n.checked_add(p.shape[0]))?;
        let segments = parts.iter().flat_map(|p| p.segments.clone()).collect();
        Some(Self { format, shape, segments })
    }

    /// All values as f32, F64 rounded to it; `None` where the format has none that a model is computed with.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.format.is_float().then(|| self.unpacked())
    }

    fn unpacked(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.segments.iter().map(Segment::weights).sum()];
        let mut rest = &mut *values;
        for segment in &self.segments {
            let (part, behind) = rest.split_at_mut(segment.weights());
            segment.unpack(part);
            rest = behind;
        }
        values
    }

    /// Writes the values from number `first` on, as many as `to` has room for.
    ///
    /// # Panics
    /// If the tensor has not so many, or none that a model is computed with.
    pub fn read(&self, first: usize, to: &mut [f32]) {
        let (mut start, mut to) = (first, to);
        for segment in &self.segments {
            let held = segment.weights();
            if start >= held {
                start -= held;
                continue;
            }
            let (part, rest) = to.split_at_mut((held - start).min(to.len()));
            segment.read(start, part);
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
        let has_groups = || self.segments.iter().all(|segment| segment.has_groups_of(width));
        let is_scaled = self.is_scaled();
        self.format.integers_in_rows_of(width).filter(|form| has_groups() && (!is_scaled || form.group == GROUP))
    }

    /// Whether its weights are scaled once they are unpacked.
    pub(super) fn is_scaled(&self) -> bool {
        self.segments.iter().any(|segment| segment.scaling.is_some())
    }

    /// Whether every byte is 0, which the values of a trained tensor never are; an empty tensor has none that is.
    ///
    /// Looks at the start, the middle and the end of the tensor first, so that one that holds values is hardly read. What is read
    /// beyond that comes off `budget`, in bytes; where that is spent, the three samples decide.
    pub fn is_zero(&self, budget: &mut usize) -> bool {
        const SAMPLE: usize = 4096;
        let sampled = |segment: &Segment| {
            let bytes = segment.bytes();
            let zeros = |bytes: &[u8]| are_zeros(segment.format, bytes);
            let [start, middle, end] = [0, bytes.len() / 2, bytes.len().saturating_sub(SAMPLE)]
                .map(|start| start / 8 * 8)
                .map(|start| &bytes[start..bytes.len().min(start + SAMPLE)]);
            zeros(start) && zeros(middle) && zeros(end)
        };
        if self.byte_len() == 0 || !self.segments.iter().all(sampled) {
            return false;
        }
        self.segments.iter().all(|segment| {
            let bytes = segment.bytes();
            let read = bytes.len().min(*budget);
            *budget -= read;
            are_zeros(segment.format, &bytes[..read])
        })
    }

    /// Whether the second half of the tensor holds nothing but zeros; what is read comes off `budget`, in bytes, and nothing is told
    /// where that is spent.
    pub fn ends_in_zeros(&self, budget: &mut usize) -> bool {
        let Some(segment) = self.segments.last() else { return false };
        let bytes = segment.bytes();
        let zeros = |bytes: &[u8]| are_zeros(segment.format, bytes);
        // Whole values from the middle on, from the end of which on a tensor with values there is hardly read.
        let half = &bytes[(bytes.len() / 2).next_multiple_of(8).min(bytes.len())..];
        let last = half.len().saturating_sub(64) / 8 * 8;
        if half.is_empty() || !zeros(&half[last..]) || half.len() > *budget {
            return false;
        }
        *budget -= half.len();
        zeros(half)
    }

    /// Whether no value is NaN or infinite as f32, scaled where it has scales; true of a format that a model is not computed with. Reads
    /// all of it.
    pub fn is_finite(&self) -> bool {
        if !self.format.is_float() {
            return true;
        }
        let mut values = vec![0.0; AT_ONCE];
        self.segments.iter().all(|segment| {
            (0..segment.weights()).step_by(AT_ONCE).all(|first| {
                let values = &mut values[..AT_ONCE.min(segment.weights() - first)];
                segment.read(first, values);
                values.iter().all(|value| value.is_finite())
            })
        })
    }
}

/// Whether bytes of a format, which begin with a value's first, are zeros of either sign.
fn are_zeros(format: Format, bytes: &[u8]) -> bool {
    let width = format.bytes();
    if !format.is_float() || format.weights() > 1 {
        return bytes.iter().all(|&byte| byte == 0);
    }
    let is_zero = |value: &[u8]| value.iter().enumerate().all(|(i, &b)| b == 0 || (b == 0x80 && i + 1 == width));
    bytes.iter().all(|&byte| byte == 0) || bytes.chunks(width).all(is_zero)
}

impl IntegerSource for Stored {
    fn read(&self, row: usize, first: usize, to: Integers) {
        let form = self.format.integers().expect("a matrix whose weights are integers");
        let mut start = row * self.shape[1] + first;
        for segment in &self.segments {
            let held = segment.weights();
            if start < held {
                // Rows are in one piece.
                return segment.read_integers(form, start, to);
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
    /// The bytes of a tensor of one format, in whole rows.
    pub(super) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Segment::bytes)
    }

    /// Whether its bytes alone say what its values are: it has no scales, and all of it is stored in its format.
    pub fn is_in_its_bytes(&self) -> bool {
        !self.is_scaled() && !self.is_of_several_formats()
    }

    /// Whether its values are those that are stored.
    pub(super) fn is_plain(&self) -> bool {
        [Format::F32, Format::F16, Format::BF16].contains(&self.format) && self.is_in_its_bytes()
    }

    /// Passes on the values as they are stored, of a format that kernels don't read as F32; `None` where the format has none that a
    /// model is computed with.
    pub(super) fn with_values<T>(&self, take: impl FnOnce(kernels::Values) -> T) -> Option<T> {
        if !self.is_plain() {
            return Some(take(kernels::Values::F32(&self.to_f32()?)));
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
        // nor where a scale makes it none
        let scaled = |scale: f32| Stored::of(&vec![1.0; 70_000], vec![70_000]).scaled(Arc::new(Last(scale)));
        assert!(scaled(3.0).is_finite() && !scaled(f32::NAN).is_finite() && !scaled(f32::INFINITY).is_finite());
        assert!(!halves(Format::BF16, &[0x7fc0, 0], vec![2]).is_finite());
        assert!(Stored::of_bytes(Format::I64, vec![1], vec![0xff; 8]).unwrap().is_finite());
    }

    /// A scale of weight 69,999 alone.
    #[derive(Debug)]
    struct Last(f32);

    impl Scaling for Last {
        fn scale(&self, first: usize, weights: &mut [f32]) {
            if let Some(weight) = 69_999usize.checked_sub(first).and_then(|at| weights.get_mut(at)) {
                *weight *= self.0;
            }
        }
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
