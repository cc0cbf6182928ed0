//! The ground layer: devices, weights, and the operations that models are made of.
//!
//! A model asks a [`Weights`] view for parameters *by name* and builds [`layers`] from them; it never learns whether they
//! came from a file, an archive or a wrapper around either. Everything above computes with Burn tensors in f32. On the CPU a
//! matrix is kept in the order that [`kernels`] reads ([`Matrix::Panels`]), and any may stay in its file until it is multiplied
//! ([`Matrix::Mapped`]).

#![warn(missing_docs)]

mod bits;
mod blocks;
pub mod check;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
mod device;
mod device_matrix;
mod error;
mod finiteness;
mod format;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod gpu;
#[cfg(not(any(feature = "cuda", feature = "vulkan")))]
#[path = "no_gpu.rs"]
mod gpu;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod later;
#[cfg(not(any(feature = "cuda", feature = "vulkan")))]
#[path = "no_later.rs"]
mod later;
pub mod layers;
mod mapped;
pub mod ops;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod packed;
#[cfg(not(any(feature = "cuda", feature = "vulkan")))]
#[path = "no_packed.rs"]
mod packed;
mod packing;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod panics;
#[cfg(not(any(feature = "cuda", feature = "vulkan")))]
#[path = "no_panics.rs"]
mod panics;
pub mod pickle;
mod place;
pub mod safetensors;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod uploads;
#[cfg(feature = "vulkan")]
mod vulkan;
#[cfg(not(feature = "vulkan"))]
#[path = "no_vulkan.rs"]
mod vulkan;
mod weights;

use std::fmt::Debug;

pub use bits::{BitForm, Field, Number, Part, PartNumber, Round, Runs, Scale, Shift, Steps, Table, Whole};
pub use blocks::Blocks;
pub use burn::tensor::{DType, Device, Tensor};
use burn::tensor::{Element, TensorData};
pub use device::{
    Listed, about, compiled_kernels, computes_by_itself, device, device_for, devices, free_memory, give_back_freed,
    give_back_of_models, has_f16, keep_kernels_in, largest_tensor, of_device, ready_again, rest, settled,
};
pub use device_matrix::DeviceMatrix;
pub use error::{Error, PickleFault};
pub use finiteness::Finiteness;
pub use format::{BlockFormat, Format, IntegerForm, Product, Unpack};
pub use kernels::{Compute, NORMAL_BLOCK};
pub use mapped::Mapped;
pub use packed::Packed;
pub use place::Place;
pub use weights::{
    Branch, Change, Computed, Convolution, Declare, Factor, Footprint, Form, Kind, Layout, MAX_DEPTH, Manifest, Matrix,
    Memory, Need, Parameter, Residency, Rule, Scaling, Socket, Stored, Strength, Weight, WeightSource, Weights,
};

/// Whether products of bf16 have instructions of their own on this CPU: then whoever computes in [`Compute::Bf16`] packs what a convolution or
/// a matrix is given, in bf16 beside the f32 that it came in.
pub fn packs_bf16() -> bool {
    cpu::isa().has_bf16()
}

/// What a convolution on the CPU packs of so many channels of a pixel at most, in values of f32.
pub fn packed_channels(channels: u64) -> u64 {
    // kernels: 32 channels side by side, in bf16
    if packs_bf16() { channels.next_multiple_of(32) / 2 } else { 0 }
}

/// Turns uniform values in [0, 1) into standard normal ones as torch's CPU generator does, to the bit: in blocks of [`NORMAL_BLOCK`], of whose values
/// `j` pairs with `j + 8`. What is behind the last whole block stays.
pub fn box_muller(values: &mut [f32]) {
    kernels::box_muller(cpu::isa(), values);
}

/// A picture in a VAE's space, `[batch, channels, height / 8, width / 8]`, f32.
#[derive(Clone, Debug)]
pub struct Latent(pub Tensor<4>);

impl Latent {
    /// What becomes of each picture of the batch, counted from 0, by itself, so that none depends on the others in any bit and a batch takes no more memory
    /// than one: larger matrices would be multiplied in another order, and a processor gains little from them.
    ///
    /// # Errors
    /// The first of `picture`'s.
    pub fn one_by_one<E>(&self, picture: impl Fn(usize, Tensor<4>) -> Result<Tensor<4>, E>) -> Result<Self, E> {
        let [b, ..] = self.0.dims();
        let pictures = (0..b).map(|i| picture(i, self.0.clone().narrow(0, i, 1)));
        Ok(Self(Tensor::cat(pictures.collect::<Result<_, _>>()?, 0)))
    }
}

/// Whether every value of a tensor is a number: neither NaN nor infinite. [`Finiteness`] is the same for who can wait.
///
/// # Errors
/// As [`on_host`].
pub fn is_finite<const D: usize>(tensor: &Tensor<D>) -> Result<bool, Error> {
    Finiteness::of(tensor).answer()
}

/// The same values in f32, in which latents and pictures are.
pub fn in_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    in_format(tensor, DType::F32)
}

/// The same values in the number format of another tensor. Burn's operators don't convert: what is of another format than the first they read
/// as if it were of that, so whoever joins what two layers made sees to it.
pub fn in_format_of<const D: usize, const E: usize>(tensor: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    in_format(tensor, other.dtype())
}

fn in_format<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype { tensor } else { gpu::converted(&tensor, dtype).unwrap_or_else(|| tensor.cast(dtype)) }
}

/// The values of a tensor of any device on the host, row-major, f32.
///
/// A device computes later than it is asked to, so what went wrong in it comes to light where its values are looked at.
///
/// # Errors
/// [`Error::DeviceMemory`] or [`Error::DeviceFault`] where the device could not compute them.
pub fn on_host<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>, Error> {
    read(tensor)
}

/// The same in any number format.
pub(crate) fn read<const D: usize, E: Element>(tensor: &Tensor<D>) -> Result<Vec<E>, Error> {
    match vulkan::data(tensor) {
        Some(data) => {
            data?.try_cast_as::<E>().and_then(|data| data.try_into_vec()).map_err(|error| Error::on_device(&error))
        }
        None => answered(tensor, tensor.try_to_vec_as()),
    }
}

/// The same of a tensor that nobody needs any more, whose values are not copied where they lie in their order on the CPU.
///
/// # Errors
/// As [`on_host`].
pub fn into_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    if tensor.device() != Device::flex() {
        return on_host(&tensor);
    }
    let values = tensor.try_into_data_as::<f32>().and_then(|data| Ok(data.try_into_vec::<f32>()?));
    values.map_err(|error| Error::on_device(&error))
}

/// What was read of a tensor, unless its device failed of something before.
pub(crate) fn answered<const D: usize, T, E: Debug>(tensor: &Tensor<D>, read: Result<T, E>) -> Result<T, Error> {
    // By now the device has heard of all that it was asked for, as the read came last.
    match vulkan::failure(&tensor.device()) {
        Some(failure) => Err(failure),
        None => cuda::answered(tensor, read),
    }
}

/// The values of a tensor of the CPU, row-major, f32.
///
/// # Panics
/// If the tensor is another device's, and that could not compute them: [`on_host`] says so.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    on_host(tensor).expect("the CPU has computed what it returned")
}

/// A tensor of host values.
///
/// # Panics
/// If `values` does not fill `shape`.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_number_is_found_in_every_place_of_every_view_and_outside_of_none() {
        let shape = [3, 4, 5];
        type View = fn(Tensor<3>) -> Tensor<3>;
        let views: [View; 7] = [
            |x| x,
            |x| x.narrow(0, 1, 1),
            |x| x.narrow(1, 1, 2),
            |x| x.narrow(2, 2, 3).swap_dims(0, 2),
            |x| x.swap_dims(1, 2).narrow(1, 1, 3),
            |x| x.narrow(2, 2, 1).expand([3, 4, 6]),
            |x| x.flip([0, 2]).narrow(2, 1, 3),
        ];
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..60 {
                    let mut all = vec![1.5; 60];
                    all[at] = bad;
                    let all = tensor(all, shape, &Device::flex()).cast(dtype);
                    assert!(!is_finite(&all).unwrap());
                    for view in views {
                        let seen = view(all.clone());
                        assert_eq!(
                            is_finite(&seen).unwrap(),
                            values(&seen).iter().all(|v| v.is_finite()),
                            "{dtype:?}, {bad} at {at}"
                        );
                    }
                }
            }
            assert!(is_finite(&Tensor::<3>::ones(shape, (&Device::flex(), dtype))).unwrap());
        }
        assert!(is_finite(&Tensor::<2>::ones([0, 3], &Device::flex())).unwrap());
    }
}
