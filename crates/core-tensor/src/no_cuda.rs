//! What there is of [`crate::cuda`] in a build without it: nothing that could be reached.

#![allow(dead_code, reason = "what is told to kernels that are not there is not read")]

use std::{fmt::Debug, ops::Deref};

use kernels::Compute;

use crate::{Device, Error, Tensor, device_matrix::DeviceMatrix, packing::Content};

/// What writes weights as a device has them.
pub(crate) type Fill = Box<dyn Fn(&mut [u8]) + Send + Sync>;

/// How many of those that pass through a device's memory are there at a time, where any are.
pub(crate) const SLOTS: usize = 3;

/// Weights that pass through a device's memory, of which there are none.
#[derive(Debug)]
pub(crate) enum Ahead {}

/// One of them.
#[derive(Debug)]
pub(crate) enum Brought {}

impl Ahead {
    pub(crate) fn on(_: &Device) -> Option<Self> {
        None
    }

    pub(crate) fn enrol(&self, _: Content, _: Compute, _: Fill) -> usize {
        match *self {}
    }

    pub(crate) fn bring(&self, _: usize) -> Option<Brought> {
        match *self {}
    }
}

impl Deref for Brought {
    type Target = DeviceMatrix;

    fn deref(&self) -> &DeviceMatrix {
        match *self {}
    }
}

/// What was read of a tensor.
pub(crate) fn answered<const D: usize, T, E: Debug>(_: &Tensor<D>, read: Result<T, E>) -> Result<T, Error> {
    read.map_err(|error| Error::on_device(&error))
}
