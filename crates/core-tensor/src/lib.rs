//! The floor of the house: devices, weights, and the operations that models are made of.
//!
//! A model asks a [`Weights`] view for parameters *by name* and builds [`layers`] from them; it never learns whether they
//! came from a file, an archive or a wrapper around either. Everything above computes with Burn tensors in f32. On the CPU a
//! matrix is kept in the order that [`kernels`] reads ([`Weight::Panels`]), and any may stay in its file until it is multiplied
//! ([`Weight::Packed`]).

#![warn(missing_docs)]

mod blocks;
mod cpu;
mod device;
mod error;
pub mod layers;
mod mapped;
pub mod ops;
pub mod safetensors;
mod weights;

pub use blocks::Blocks;
use burn::tensor::TensorData;
pub use burn::tensor::{Device, Tensor};
pub use device::device;
pub use error::Error;
pub use kernels::Compute;
pub use mapped::Mapped;
pub use weights::{
    BlockFormat, Filter, Form, Format, MAX_DEPTH, Manifest, PackedMatrix, Product, Residency, Stored, Survey, Unpack,
    Weight, WeightSource, Weights,
};

/// A picture in a VAE's space, `[batch, channels, height / 8, width / 8]`, f32.
#[derive(Clone, Debug)]
pub struct Latent(pub Tensor<4>);

/// Whether every value of a tensor is a number: neither NaN nor infinite.
pub fn is_finite<const D: usize>(tensor: &Tensor<D>) -> bool {
    values(tensor).iter().all(|v| v.is_finite())
}

/// The values of a tensor on the host, row-major, f32.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_to_vec().expect("the data was just converted to f32")
}

/// A tensor of host values.
///
/// # Panics
/// If `values` does not fill `shape`.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
