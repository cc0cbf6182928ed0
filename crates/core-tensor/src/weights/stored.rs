//! A tensor as it lies in its file.

use std::{borrow::Cow, ops::Range, sync::Arc};

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::Dtype;
use crate::safetensors::Bytes;

/// A tensor in the precision of its source, row-major, little-endian; its bytes may still be in a mapped file.
#[derive(Clone)]
pub struct Stored {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// One after the other; more than one where a tensor was put together from several.
    segments: Vec<Segment>,
}

#[derive(Clone)]
struct Segment {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        &self.bytes.as_ref().as_ref()[self.range.clone()]
    }
}

impl Stored {
    pub(crate) fn mapped(dtype: Dtype, shape: Vec<usize>, bytes: Arc<Bytes>, range: Range<usize>) -> Self {
        Self { dtype, shape, segments: vec![Segment { bytes, range }] }
    }

    /// A tensor of values that were computed rather than read.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    pub fn of(values: &[f32], shape: Vec<usize>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values for shape {shape:?}");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let range = 0..bytes.len();
        Self::mapped(Dtype::F32, shape, Arc::new(Bytes::Read(bytes)), range)
    }

    /// A tensor of which only the form is known; it has no values.
    pub fn hollow(dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { dtype, shape, segments: Vec::new() }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// A copy of the stored bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.segments.iter().flat_map(Segment::bytes).copied().collect()
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
    /// # Panics
    /// If the range leaves the tensor.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.shape[0], "rows {rows:?} of {}", self.shape[0]);
        let row = self.byte_len() / self.shape[0].max(1);
        let (mut skip, mut take) = (rows.start * row, rows.len() * row);
        let mut segments = Vec::new();
        for Segment { bytes, range } in &self.segments {
            let start = range.start + skip.min(range.len());
            let end = start + take.min(range.end - start);
            skip -= start - range.start;
            take -= end - start;
            if start < end {
                segments.push(Segment { bytes: bytes.clone(), range: start..end });
            }
        }
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Self { dtype: self.dtype, shape, segments }
    }

    /// Tensors one below the other, without copying them; `None` unless there are some, of one format and of one shape but
    /// for the first dimension.
    pub fn stacked(parts: &[Stored]) -> Option<Self> {
        let first = parts.first()?;
        let fits =
            |p: &Stored| p.dtype == first.dtype && p.shape.get(1..) == first.shape.get(1..) && !p.shape.is_empty();
        if !parts.iter().all(fits) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().map(|p| p.shape[0]).sum();
        let segments = parts.iter().flat_map(|p| p.segments.clone()).collect();
        Some(Self { dtype: first.dtype, shape, segments })
    }

    /// All values as f32, F64 rounded to it; `None` where the format is none of F64, F32, F16 and BF16.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        match self.segments.as_slice() {
            [one] => to_f32(self.dtype, one.bytes()),
            segments => {
                let parts = segments.iter().map(|segment| to_f32(self.dtype, segment.bytes()));
                let none = to_f32(self.dtype, &[]);
                parts.chain([none]).try_fold(Vec::new(), |mut all, part| {
                    all.extend(part?);
                    Some(all)
                })
            }
        }
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

    /// Whether these bytes, which begin with a value's first, are zeros of either sign.
    fn are_zeros(&self, bytes: &[u8]) -> bool {
        let width = match self.dtype {
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            _ => return bytes.iter().all(|&byte| byte == 0),
        };
        let is_zero = |value: &[u8]| value.iter().enumerate().all(|(i, &b)| b == 0 || (b == 0x80 && i + 1 == width));
        bytes.iter().all(|&byte| byte == 0) || bytes.chunks(width).all(is_zero)
    }
}

impl Stored {
    /// Passes on the values as they are stored, F64 as F32; `None` where the format is none of F64, F32, F16 and BF16.
    pub(super) fn with_values<T>(&self, take: impl FnOnce(kernels::Values) -> T) -> Option<T> {
        let bytes = match self.segments.as_slice() {
            [one] => Cow::Borrowed(one.bytes()),
            _ => Cow::Owned(self.to_bytes()),
        };
        match self.dtype {
            Dtype::F64 => Some(take(kernels::Values::F32(&to_f32(Dtype::F64, &bytes)?))),
            Dtype::F32 => Some(take(kernels::Values::F32(&numbers(&bytes, f32::from_le_bytes)))),
            Dtype::F16 => Some(take(kernels::Values::F16(numbers(&bytes, u16::from_le_bytes).reinterpret_cast()))),
            Dtype::BF16 => Some(take(kernels::Values::Bf16(numbers(&bytes, u16::from_le_bytes).reinterpret_cast()))),
            _ => None,
        }
    }
}

/// Little-endian numbers, where they lie if that is at an address for numbers of their size.
fn numbers<T: bytemuck::Pod, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) if cfg!(target_endian = "little") => Cow::Borrowed(numbers),
        _ => Cow::Owned(bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()),
    }
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F64 => {
            Some(bytes.as_chunks().0.iter().map(|&bytes: &[u8; 8]| f64::from_le_bytes(bytes) as f32).collect())
        }
        Dtype::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::BF16 => Some(halves().map(|b| bf16::from_bits(b).to_f32()).collect()),
        Dtype::F16 => {
            let halves: Vec<f16> = halves().map(f16::from_bits).collect();
            let mut out = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut out);
            Some(out)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tests::halves;

    #[test]
    fn half_precisions_unpack_exactly() {
        let f16 = halves(Dtype::F16, &[0x3c00, 0xc000, 0x3555], vec![3]);
        assert_eq!(f16.to_f32().unwrap(), [1.0, -2.0, 0.333_251_95]);
        let bf16 = halves(Dtype::BF16, &[0x3f80, 0xc000, 0x3eab], vec![3]);
        assert_eq!(bf16.to_f32().unwrap(), [1.0, -2.0, 0.333_984_38]);
    }

    #[test]
    fn doubles_are_read_as_the_nearest_floats() {
        let values = [1.0f64, -0.1, 1e300];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let stored = Stored::mapped(Dtype::F64, vec![3], Arc::new(Bytes::Read(bytes)), 0..24);
        assert_eq!(stored.to_f32().unwrap(), [1.0, -0.1, f32::INFINITY]);
        let packed = stored.with_values(|v| matches!(v, kernels::Values::F32([1.0, _, f32::INFINITY])));
        assert_eq!(packed, Some(true));
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
    fn rows_of_a_stack_run_across_its_parts() {
        let part = |from: i32, rows: usize| {
            Stored::of(&(from..from + 2 * rows as i32).map(|v| v as f32).collect::<Vec<_>>(), vec![rows, 2])
        };
        let stack = Stored::stacked(&[part(0, 2), part(4, 1), part(6, 3)]).unwrap();
        assert_eq!(stack.shape(), [6, 2]);
        for start in 0..=6 {
            for end in start..=6 {
                let expected: Vec<f32> = (2 * start..2 * end).map(|v| v as f32).collect();
                assert_eq!(stack.rows(start..end).to_f32().unwrap(), expected, "{start}..{end}");
            }
        }
        assert_eq!(stack.rows(1..5).rows(1..3).to_f32().unwrap(), [4.0, 5.0, 6.0, 7.0]);
        assert!(Stored::stacked(&[part(0, 1), Stored::of(&[0.0; 3], vec![1, 3])]).is_none());
    }

    #[test]
    fn numbers_are_read_at_any_address() {
        let bytes: Vec<u8> = [1.0f32, -2.5, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        for shift in 0..4 {
            let shifted: Vec<u8> = [vec![0; shift], bytes.clone()].concat();
            assert_eq!(*numbers(&shifted[shift..], f32::from_le_bytes), [1.0, -2.5, 3.0]);
        }
    }
}
