//! Burn's tensors as buffers with strides.

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};
use cubecl::{client::Client, server::MemoryLayoutDescriptor, zspace::metadata::Metadata};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use kernels::Values;
use rayon::prelude::*;

use super::{OURS, language::Language};
use crate::{Device, Tensor, uploads::uploaded};

/// Bytes that a kernel reads at once, at which its buffers begin.
const ALIGNED: u64 = 16;

/// A tensor of a device that has kernels of ours, in a number format that they take.
#[derive(Clone, Debug)]
pub(crate) struct View(pub(crate) CubeTensor);

/// Whether a tensor is one that kernels of ours take.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    View::of(x).is_some()
}

/// Values as a number format has them; as they are where they have it.
pub(super) fn bytes_of(values: Values, dtype: DType) -> Vec<u8> {
    let count = match values {
        Values::F32(v) => v.len(),
        Values::F16(v) => v.len(),
        Values::Bf16(v) => v.len(),
    };
    let mut bytes = vec![0; count * dtype.size()];
    write(values, dtype, &mut bytes);
    bytes
}

/// The same into bytes that are there.
pub(super) fn write(values: Values, dtype: DType, to: &mut [u8]) {
    let brain = |v: f32| bf16::from_f32(v).to_bits().to_ne_bytes();
    let half = |v: f32| f16::from_f32(v.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_bits().to_ne_bytes();
    match (values, dtype) {
        (Values::Bf16(v), DType::BF16) => copy(bytemuck::cast_slice(v.reinterpret_cast()), to),
        (Values::F32(v), DType::BF16) => each(v, to, |&v| brain(v)),
        (Values::F16(v), DType::BF16) => each(v, to, |v| brain(v.to_f32())),
        (Values::F16(v), DType::F16) => copy(bytemuck::cast_slice(v.reinterpret_cast()), to),
        (Values::F32(v), DType::F16) => each(v, to, |&v| half(v)),
        (Values::Bf16(v), DType::F16) => each(v, to, |v| half(v.to_f32())),
        (Values::F32(v), _) => copy(bytemuck::cast_slice(v), to),
        (Values::F16(v), _) => each(v, to, |v| v.to_f32().to_ne_bytes()),
        (Values::Bf16(v), _) => each(v, to, |v| v.to_f32().to_ne_bytes()),
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn each<T: Sync, const N: usize>(values: &[T], to: &mut [u8], bytes: impl Fn(&T) -> [u8; N] + Sync) {
    to.par_chunks_mut(N * CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(N).zip(from) {
            to.copy_from_slice(&bytes(from));
        }
    });
}

/// Numbers that a thread changes at a time.
const CHUNK: usize = 1 << 16;

impl View {
    /// # Panics
    /// If the tensor has another device or number format.
    pub(super) fn ours<const D: usize>(x: &Tensor<D>) -> Self {
        Self::of(x).expect(OURS)
    }

    /// Whether the device has Hopper's instructions for groups of warps, which neither those before nor those after it have.
    pub(super) fn is_hopper(&self) -> bool {
        let features = &self.0.client.properties().features;
        !features.tma.is_empty() && features.matmul.scaled_mma.is_empty()
    }

    /// What kernels for its device are written in.
    pub(super) fn language(&self) -> Language {
        match self.0.device {
            CubeDevice::Wgpu(_) => Language::Wgsl,
            _ => Language::Cuda,
        }
    }

    /// Something on a device, for what is put beside it; `None` where there are no kernels of ours.
    pub(crate) fn on(device: &Device) -> Option<Self> {
        Self::of(&Tensor::<1>::empty([1], device))
    }

    /// `None` for a tensor of another device or number format.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        let is_ours = matches!(x.dtype(), DType::F32 | DType::BF16 | DType::F16);
        let x = is_ours.then(|| x.clone().try_into_primitive::<CubeBackend>().ok()).flatten()?;
        let has_kernels = match x.device {
            // Asynchronous copies into shared memory came with the architecture whose instructions the kernels are written in.
            CubeDevice::Cuda(_) => x.client.properties().features.copy_async,
            CubeDevice::Wgpu(_) => x.dtype != DType::BF16,
            _ => false,
        };
        has_kernels.then_some(Self(x))
    }

    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<CubeBackend>(self.0)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// How many blocks of threads the device computes at a time at least. Vulkan does not tell: as many as cards of the middle have.
    pub(super) fn multiprocessors(&self) -> usize {
        self.client().properties().hardware.num_streaming_multiprocessors.unwrap_or(48) as usize
    }

    pub(super) fn dtype(&self) -> DType {
        self.0.dtype
    }

    pub(super) fn dims<const D: usize>(&self) -> [usize; D] {
        std::array::from_fn(|i| self.0.meta.shape()[i])
    }

    pub(super) fn strides<const D: usize>(&self) -> [usize; D] {
        std::array::from_fn(|i| self.0.meta.strides()[i])
    }

    pub(super) fn len(&self) -> usize {
        self.0.meta.shape().iter().product()
    }

    /// Row-major and without gaps.
    pub(super) fn contiguous(self) -> Self {
        match self.0.is_contiguous() && self.is_aligned() {
            true => self,
            false => Self(burn_cubecl::kernel::into_contiguous(self.0)),
        }
    }

    /// How many elements a kernel of CUDA reads at once.
    pub(super) fn run(&self) -> usize {
        ALIGNED as usize / self.dtype().size()
    }

    /// What stands in for a buffer that is not there, and is not read: of as many bytes as are read at once.
    pub(super) fn stand_in(&self) -> Self {
        let is_large = self.len() * self.dtype().size() >= ALIGNED as usize;
        if is_large { self.clone() } else { self.empty([ALIGNED as usize / size_of::<f32>()], DType::F32) }
    }

    /// Whether its first element can be read with those behind it.
    pub(super) fn is_aligned(&self) -> bool {
        self.0.handle.offset_start.unwrap_or(0).is_multiple_of(ALIGNED)
    }

    /// Rows along the last dimension, all equally far apart: how many, and how far in elements. `unit` is what distances have to be
    /// a multiple of.
    pub(super) fn rows(self, unit: usize) -> (Self, usize, usize) {
        let (shape, strides) = (self.0.meta.shape().clone(), self.0.meta.strides().clone());
        let d = shape.num_dims();
        let (rows, width) = (shape.iter().take(d - 1).product(), shape[d - 1]);
        let mut apart = None;
        let mut next = 0;
        let mut is_even = strides[d - 1] == 1 || width == 1;
        for i in (0..d - 1).rev().filter(|&i| shape[i] != 1) {
            match apart {
                None => apart = Some(strides[i]),
                Some(_) => is_even &= strides[i] == next,
            }
            next = strides[i] * shape[i];
        }
        let apart = apart.unwrap_or(width);
        match is_even && apart >= width && apart.is_multiple_of(unit) && self.is_aligned() {
            true => (self, rows, apart),
            false => (Self(burn_cubecl::kernel::into_contiguous(self.0)).contiguous(), rows, width),
        }
    }

    /// Room for so many values, of a shape, row-major and without gaps; nobody has written them.
    pub(super) fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> Self {
        let (like, shape) = (&self.0, shape.into());
        let descriptor = MemoryLayoutDescriptor::contiguous(shape.clone(), dtype.size());
        let layout = like.client.empty_tensors(vec![descriptor]).remove(0);
        let meta = Metadata::new(shape, layout.strides);
        Self(CubeTensor::new(like.client.clone(), layout.memory, meta, like.device.clone(), dtype))
    }

    /// Room for as many values in the same shape, row-major and without gaps.
    pub(super) fn like(&self, dtype: DType) -> Self {
        self.empty(self.0.meta.shape().clone(), dtype)
    }

    /// Values in a number format, row-major and without gaps, on the same device.
    pub(super) fn upload(&self, bytes: Vec<u8>, dtype: DType, shape: impl Into<Shape>) -> Self {
        let like = &self.0;
        let handle = uploaded(like, bytes);
        Self(CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape.into(), handle, dtype))
    }

    /// The same buffer under another shape and other strides.
    pub(super) fn seen_as<const D: usize>(self, shape: [usize; D], strides: [usize; D]) -> Self {
        let mut x = self.0;
        *x.meta = Metadata::new(shape, strides);
        Self(x)
    }

    /// The same buffer under another shape, row-major.
    pub(super) fn row_major<const D: usize>(self, shape: [usize; D]) -> Self {
        let mut strides = [1; D];
        for i in (0..D.saturating_sub(1)).rev() {
            strides[i] = strides[i + 1] * shape[i + 1];
        }
        self.seen_as(shape, strides)
    }
}
