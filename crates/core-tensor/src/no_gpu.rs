//! What there is of [`crate::gpu`] in a build without back ends for graphics cards: nothing that could be reached.

#![allow(dead_code, reason = "what is told to kernels that are not there is not read")]

use std::path::Path;

use burn::tensor::DType;
use kernels::{Activation, Compute, Values};

use crate::{Device, Error, Tensor};

/// Parameters of a convolution on a device, of which there are none.
#[derive(Clone, Debug)]
pub(crate) enum Conv {}

/// Where a convolution begins and how far it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) pad: usize,
    pub(crate) stride: usize,
    pub(crate) size: [usize; 2],
}

pub(crate) fn matmul<const D: usize>(_: &Tensor<D>, _: &Tensor<D>) -> Option<Tensor<D>> {
    None
}

/// What follows a product.
#[derive(Debug, Default)]
pub(crate) struct After<'a, const D: usize> {
    pub(crate) bias: Option<&'a Tensor<1>>,
    pub(crate) activation: Option<Activation>,
    pub(crate) gate: Option<&'a Tensor<D>>,
    pub(crate) residual: Option<&'a Tensor<D>>,
}

impl Conv {
    pub(crate) fn upload(_: &[f32], _: [usize; 3], _: Compute, _: &Device) -> Option<Self> {
        None
    }

    pub(crate) fn of(_: Tensor<2>, _: [usize; 3], _: Compute) -> Option<Self> {
        None
    }

    pub(crate) fn rows_of([c_out, c_in, kernel]: [usize; 3]) -> [usize; 2] {
        [c_out, c_in * kernel * kernel]
    }

    pub(crate) fn convolve(&self, _: Tensor<4>, _: Window, _: Option<Tensor<2>>, _: Option<Tensor<4>>) -> Tensor<4> {
        match *self {}
    }
}

pub(crate) fn converted<const D: usize>(_: &Tensor<D>, _: DType) -> Option<Tensor<D>> {
    None
}

pub(crate) fn compiled() -> usize {
    0
}

pub(crate) fn configure(_: Option<&Path>) {}

pub(crate) fn try_out(_: &Device) -> Result<bool, Error> {
    Ok(true)
}

pub(crate) fn side_of_units(_: &Device) -> Option<usize> {
    None
}

pub(crate) fn has_kernels(_: &Device) -> bool {
    false
}

pub(crate) fn multiplies<const D: usize>(_: &Tensor<D>) -> bool {
    false
}

pub(crate) fn linear<const D: usize>(_: &Tensor<D>, _: &Tensor<2>, _: Compute, _: After<D>) -> Option<Tensor<D>> {
    None
}

pub(crate) fn laid(values: &[f32], _: [usize; 3]) -> Vec<f32> {
    values.to_vec()
}

pub(crate) fn write(_: Values, _: Compute, _: &mut [u8]) {}

pub(crate) fn matrix(_: Values, _: [usize; 2], _: Compute, _: &Device) -> Option<Tensor<2>> {
    None
}
