//! What there is of [`crate::packed`] in a build for the CPU alone: nothing that could be reached.

use burn::tensor::DType;

use crate::{Device, Tensor, packing::Packing};

/// A matrix as it is stored, in a device's memory.
#[derive(Clone, Debug)]
pub enum Packed {}

impl Packed {
    pub(crate) fn upload(_: Vec<u8>, _: Packing, _: &Device, _: DType) -> Option<Self> {
        None
    }

    pub(crate) fn unpacked(&self) -> Tensor<2> {
        match *self {}
    }

    pub(crate) fn thin<const D: usize>(&self, _: &Tensor<D>, _: Option<&Tensor<1>>) -> Option<Tensor<D>> {
        match *self {}
    }
}

/// There is nothing to forget.
pub(crate) fn forget() {}
