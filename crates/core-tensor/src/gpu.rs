//! Kernels of ours for graphics cards, launched through CubeCL over the buffers of Burn's tensors: CUDA C++ that NVRTC compiles for the very
//! device, on NVIDIA's from compute capability 8.0 on, and WGSL on what speaks Vulkan. A text of CUDA's has a twin in WGSL, of the same buffers and
//! numbers; beside those there are texts for what CUDA's do by themselves.
//!
//! Weights and activations are f32, f16 or on CUDA bf16, sums and statistics always f32, and so are biases, norms' scales and whatever modulates.
//! What is f32 is multiplied in f32, and in TF32 by layers that are told to. What is too large for f16 becomes the largest number that it has. Maps `[b, c, h, w]` lie pixel by pixel.

use std::path::Path;

use burn::tensor::DType;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, streaming::StreamPolicy};
use kernels::{Compute, Values};

use crate::{Device, Tensor, panics};

mod attention;
mod kernel;
mod language;
mod maps;
mod matmul;
mod product;
mod rows;
mod trial;
mod units;
mod view;
mod wgsl;

#[cfg(feature = "vulkan")]
pub(crate) use self::units::{Units, know};
use self::view::bytes_of;
pub(crate) use self::{
    attention::{Scoring, attend},
    kernel::compiled,
    maps::{Conv, Window, add_maps, channels_joined, group_norm, laid, pixels, tokens, upsampled},
    matmul::matmul,
    product::{After, linear, multiplies},
    rows::{HeadsOfStream, Norm, activate, add, converted, gated, norm, rotate},
    trial::try_out,
    units::side_of_units,
    view::{View, takes},
};

/// Why a tensor has a view.
const OURS: &str = "a model computes in a number format that kernels of ours have, on the device that it was loaded on";

/// Whether a device is one that kernels of ours are for.
pub(crate) fn has_kernels(device: &Device) -> bool {
    View::on(device).is_some()
}

/// A matrix in the number format that is computed in; `None` on a device without kernels of ours.
pub(crate) fn matrix(values: Values, shape: [usize; 2], compute: Compute, device: &Device) -> Option<Tensor<2>> {
    let dtype = dtype_of(compute);
    Some(View::on(device)?.upload(bytes_of(values, dtype), dtype, shape).into_tensor())
}

/// Writes values in the number format that is computed in, as many as there is room for.
pub(crate) fn write(values: Values, compute: Compute, to: &mut [u8]) {
    view::write(values, dtype_of(compute), to);
}

/// Sets CubeCL up, whose own habit is to read a file of the current folder. Compiled kernels of CUDA are kept in `folder`.
pub(crate) fn configure(folder: Option<&Path>) {
    panics::listen();
    let mut config = CubeClRuntimeConfig::default();
    #[cfg(feature = "cuda")]
    {
        config.compilation.cache = folder.is_some();
    }
    // Each stream has memory of its own, and a pool of threads computes each step on any of them.
    config.streaming.policy = StreamPolicy::Single;
    // Somebody else may have set it up already: it is theirs then.
    if CubeClRuntimeConfig::try_set(config)
        && let Some(folder) = folder
    {
        cubecl::environment::set_root(folder);
    }
}

/// The number format of weights and activations.
pub(crate) fn dtype_of(compute: Compute) -> DType {
    match compute {
        Compute::F32 | Compute::Tf32 | Compute::Integers => DType::F32,
        Compute::Bf16 => DType::BF16,
        Compute::F16 => DType::F16,
    }
}
