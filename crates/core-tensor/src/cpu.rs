//! Tensors of the CPU back end as the slices and strides that [`kernels`] computes on.

use std::{mem::MaybeUninit, ops::Deref};

use burn::backend::{
    BackendTensor, Bytes, DType, DispatchTensor, DispatchTensorKind, Flex, Shape,
    flex::{FlexTensor, Layout},
};
use kernels::{Heads, Isa, Out};

use crate::{Device, Tensor};

/// The instructions that everything here uses.
pub(crate) fn isa() -> Isa {
    Isa::best()
}

/// Whether a device is the CPU back end, whose tensors are slices.
pub(crate) fn is(device: &Device) -> bool {
    *device == Device::flex()
}

/// The values of an f32 tensor of the CPU back end, row-major; copied only where they lie in another order.
pub(crate) struct Values(FlexTensor);

impl Values {
    /// `None` for a tensor of another device or number format.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        view(x).map(|x| Self(in_order(x)))
    }

    /// The values of a map `[b, c, h, w]` in the order `[b, h, w, c]`.
    pub(crate) fn by_pixels(x: &Tensor<4>) -> Option<Self> {
        Self::of(&x.clone().permute(PIXELS))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("the values are f32 and in order")
    }
}

/// What makes `[b, h, w, c]` of `[b, c, h, w]`.
pub(crate) const PIXELS: [usize; 4] = [0, 2, 3, 1];

/// A map of fewer channels leaves plane by plane: it is a latent or a picture, which others read.
pub(crate) const FEW: usize = 17;

/// What makes `[b, c, h, w]` of `[b, h, w, c]`.
pub(crate) const PLANES: [usize; 4] = [0, 3, 1, 2];

/// Whether the channels of each pixel of `[b, c, h, w]` lie side by side, and in no other order.
pub(crate) fn is_by_pixels(x: &Tensor<4>) -> bool {
    view(x).is_some_and(|x| !x.is_contiguous() && x.layout().permute(&PIXELS).is_contiguous())
}

/// The same tensor, row-major.
pub(crate) fn row_major<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match view(&x) {
        Some(view) if !view.is_contiguous() => Tensor::from_primitive::<Flex>(in_order(view)),
        Some(_) | None => x,
    }
}

/// The values row-major: as they are, or copied. Where no more than neighbouring dimensions have changed places, as between maps by
/// planes and by pixels, the copy is a kernel's.
fn in_order(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() {
        return x;
    }
    let Some([batch, rows, columns]) = transposed(x.layout()) else { return x.to_contiguous() };
    let len = batch * rows * columns;
    let values = &x.storage()[x.layout().start_offset()..][..len];
    let values = written(len, |out| kernels::transpose(isa(), values, [batch, rows, columns], out));
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(x.layout().shape().clone()), DType::F32)
}

/// `[batch, rows, columns]` in memory of a layout that is `[batch, columns, rows]`, once dimensions that lie in order are taken as one.
fn transposed(layout: &Layout) -> Option<[usize; 3]> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (&n, &stride) in layout.shape().iter().zip(layout.strides()) {
        let stride = usize::try_from(stride).ok()?;
        match groups.last_mut() {
            _ if n == 1 => {}
            Some(last) if stride.checked_mul(n) == Some(last.1) => *last = (last.0 * n, stride),
            Some(_) | None => groups.push((n, stride)),
        }
    }
    match groups[..] {
        [(columns, 1), (rows, apart)] if apart == columns => Some([1, rows, columns]),
        [(batch, whole), (columns, 1), (rows, apart)] if apart == columns && whole == rows * columns => {
            Some([batch, rows, columns])
        }
        _ => None,
    }
}

/// Rows along the last dimension, all equally far apart.
pub(crate) struct Rows {
    x: FlexTensor,
    /// How many there are.
    pub(crate) count: usize,
    /// Values between the starts of two rows.
    pub(crate) stride: usize,
}

impl Rows {
    /// `None` for a tensor of another device or number format. Rows that lie as a kernel reads them are not copied.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        let x = view(x)?;
        let dims = x.layout().shape().to_vec();
        let count = dims[..D - 1].iter().product();
        Some(match stride(&x) {
            Some(stride) => Self { x, count, stride },
            None => Self { x: in_order(x), count, stride: dims[D - 1] },
        })
    }

    /// From the first row's first value on.
    pub(crate) fn values(&self) -> &[f32] {
        &self.x.storage()[self.x.layout().start_offset()..]
    }
}

/// How far apart rows along the last dimension are, where that is one number and each row's values are neighbours.
fn stride(x: &FlexTensor) -> Option<usize> {
    let (strides, dims) = (x.layout().strides(), x.layout().shape().to_vec());
    let last = dims.len() - 1;
    let mut outer = (0..last).rev().filter(|&i| dims[i] != 1);
    let Some(first) = outer.next() else { return (dims[last] == 1 || strides[last] == 1).then_some(dims[last]) };
    let stride = usize::try_from(strides[first]).ok().filter(|&stride| stride >= dims[last])?;
    let is_even = outer
        .try_fold(stride * dims[first], |next, i| (usize::try_from(strides[i]) == Ok(next)).then_some(next * dims[i]));
    ((dims[last] == 1 || strides[last] == 1) && is_even.is_some()).then_some(stride)
}

/// A tensor `[b, heads, tokens, d]` as attention reads it.
pub(crate) struct HeadsOf {
    x: FlexTensor,
    shape: [usize; 4],
    strides: [usize; 3],
}

impl HeadsOf {
    /// `None` for a tensor of another device or number format. It is copied only where a head's channels are not neighbours.
    pub(crate) fn of(x: &Tensor<4>) -> Option<Self> {
        let shape = x.dims();
        let x = view(x)?;
        let is_readable =
            |x: &FlexTensor| x.layout().has_positive_strides() && (shape[3] == 1 || x.layout().strides()[3] == 1);
        let x = if is_readable(&x) { x } else { x.to_contiguous() };
        let strides = std::array::from_fn(|i| x.layout().strides()[i].unsigned_abs());
        Some(Self { x, shape, strides })
    }

    /// What a kernel takes.
    pub(crate) fn view(&self) -> Heads<'_> {
        let values = &self.x.storage()[self.x.layout().start_offset()..];
        Heads::new(values, self.shape, self.strides).expect("a tensor's view stays inside its values")
    }
}

/// Whether every value of an f32 tensor of the CPU back end is neither NaN nor infinite; `None` for any other tensor.
pub(crate) fn is_finite<const D: usize>(x: &Tensor<D>) -> Option<bool> {
    let x = view(x)?;
    let layout = x.layout();
    if let Some(values) = x.as_slice::<f32>() {
        return Some(kernels::is_finite(isa(), values));
    }
    // In the order of memory: a dimension of stride 0 shows the same values again.
    let dims = layout.shape().iter().copied().zip(layout.strides().iter().copied());
    let mut dims: Vec<(usize, isize)> = dims.filter(|&(n, stride)| n != 1 && stride != 0).collect();
    dims.sort_by_key(|&(_, stride)| std::cmp::Reverse(stride.unsigned_abs()));
    Some(is_finite_from(x.storage(), layout.start_offset(), &dims))
}

fn is_finite_from(values: &[f32], start: usize, dims: &[(usize, isize)]) -> bool {
    match dims {
        [] => values[start].is_finite(),
        &[(n, 1)] => values[start..][..n].iter().all(|v| v.is_finite()),
        &[(n, stride), ref inner @ ..] => (0..n).all(|i| {
            let start = start.checked_add_signed(i as isize * stride).expect("a tensor's view stays inside its values");
            is_finite_from(values, start, inner)
        }),
    }
}

fn view<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok().filter(|x| x.dtype() == DType::F32)
}

/// Changes values of an f32 tensor of the CPU back end where they are if nobody else holds them, and writes new ones otherwise.
///
/// # Panics
/// If the tensor has another device or number format.
pub(crate) fn map<const D: usize>(
    x: Tensor<D>,
    in_place: impl FnOnce(&mut [f32]),
    to_new: impl for<'o> FnOnce(&[f32], Out<'o>) -> &'o mut [f32],
) -> Tensor<D> {
    let shape = x.dims();
    let mut x = match x.into_dispatch() {
        DispatchTensor { kind: DispatchTensorKind::Flex(BackendTensor::Float(x)), .. } if x.dtype() == DType::F32 => x,
        _ => panic!("a tensor of another device or number format"),
    };
    let range = x.layout().contiguous_offsets();
    if let (Some((start, end)), Some(values)) = (range, x.try_storage_mut::<f32>()) {
        in_place(&mut values[start..end]);
        return Tensor::from_primitive::<Flex>(x);
    }
    let x = Values(in_order(x));
    tensor(shape, |out| to_new(&x, out))
}

/// A tensor of what a kernel writes. The kernel's answer is the memory that it was given, which shows that it has filled it.
///
/// # Panics
/// If the answer is any other memory.
pub(crate) fn tensor<const D: usize>(
    shape: [usize; D],
    write: impl for<'o> FnOnce(Out<'o>) -> &'o mut [f32],
) -> Tensor<D> {
    let len = shape.iter().product();
    let values = Bytes::from_elems(written(len, write));
    Tensor::from_primitive::<Flex>(FlexTensor::new(values, Layout::contiguous(Shape::from(shape)), DType::F32))
}

/// `len` values, all of them written by a kernel.
#[allow(unsafe_code, reason = "the memory is not initialised twice")]
fn written(len: usize, write: impl for<'o> FnOnce(Out<'o>) -> &'o mut [f32]) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    let out: &mut [MaybeUninit<f32>] = &mut values.spare_capacity_mut()[..len];
    let given = out.as_ptr().cast();
    let filled = write(out);
    assert!(
        filled.len() == len && (len == 0 || filled.as_ptr() == given),
        "a kernel returns the memory that it was given"
    );
    // SAFETY: within the capacity, and the kernel has given a slice of values back that is this very memory.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_returns_other_memory_than_it_was_given_is_refused() {
        let refused = |write: for<'o> fn(Out<'o>) -> &'o mut [f32]| {
            std::panic::catch_unwind(|| tensor([4], write)).expect_err("memory that nobody has written")
        };
        for panic in [
            refused(|_| &mut []),
            refused(|_| vec![1.0; 4].leak()),
            refused(|out| kernels::add(isa(), &[1.0; 3], &[1.0; 3], &mut out[..3])),
            refused(|out| kernels::add(isa(), &[1.0; 3], &[1.0; 3], &mut out[1..])),
        ] {
            assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("the memory that it was given")));
        }
    }
}
