//! The parameters of convolutions, `[c_out, c_in, kernel, kernel]`.

use std::{ops::Deref, sync::Arc};

use burn::tensor::{module, ops::ConvOptions};
use kernels::{Activation, Affines, Compute, ConvEpilogue, MapOrder, PackedConv, Prologue};

use super::{
    Beside, Factor, PANEL, Stored, Weight,
    computed::Origin,
    matrix::F32,
    passing::{Passing, Seat},
    stored::FLOATS,
    weight::PAIR,
};
use crate::{
    Device, Tensor,
    cpu::{self, FEW, PLANES, Values},
    cuda::Brought,
    device::lasting,
    gpu::{self, Window},
    in_format_of,
    packed::Packed,
    packing::Content,
    place::Place,
    tensor,
};

/// A convolution without bias over `[b, c_in, h, w]`, whose border is filled up with `kernel / 2` zeros.
#[derive(Clone, Debug)]
pub struct Convolution {
    pub(crate) parameters: Parameters,
    kernel: usize,
    stride: usize,
}

/// Where and how they are held.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and a model has few dozen")]
pub(crate) enum Parameters {
    /// Unpacked, f32.
    Dense(Tensor<4>),
    /// On the CPU, in the order that its kernels read.
    Panels(PackedConv),
    /// On a device that has kernels of ours, in the order that they read.
    Device(gpu::Conv),
    /// On another device as they are stored, and unpacked for each product.
    Packed(Packed),
    /// Where and as they are stored.
    Mapped(Arc<MappedConv>),
}

impl Convolution {
    /// A convolution of a format whose values can be read, unpacked.
    pub(super) fn held(stored: Stored, device: &Device, compute: Compute) -> Self {
        let kernel = stored.shape()[2];
        let load = || in_memory(&stored, device, compute);
        let parameters = if cpu::is(device) { load() } else { lasting(device, load) };
        stored.give_back();
        Self { parameters, kernel, stride: 1 }
    }

    /// The same, left where it is stored.
    pub(super) fn in_file(stored: Stored, device: &Device, compute: Compute, passing: &Passing) -> Self {
        let (shape, source) = (shape_of(&stored), stored.clone());
        let fill = move |to: &mut [u8]| {
            let values = source.to_f32().expect(FLOATS);
            gpu::write(kernels::Values::F32(&gpu::laid(&values, shape)), compute, to);
        };
        let seat = passing.seat(device, compute, Content::Dense(gpu::Conv::rows_of(shape)), Box::new(fill));
        let mapped = MappedConv { origin: Origin::Stored(stored), device: device.clone(), compute, seat };
        Self { parameters: Parameters::Mapped(Arc::new(mapped)), kernel: shape[2], stride: 1 }
    }

    /// Parameters of a kernel's size that are had anew, some output channels at a time, in each multiplication.
    pub(super) fn computed(origin: Origin, kernel: usize, device: &Device, compute: Compute) -> Self {
        let parameters =
            Parameters::Mapped(Arc::new(MappedConv { origin, device: device.clone(), compute, seat: None }));
        Self { parameters, kernel, stride: 1 }
    }

    /// The parameters in the order that kernels of ours for the device read; `None` where there are none of either.
    pub(crate) fn for_device(&self) -> Option<ForDevice<'_>> {
        match &self.parameters {
            Parameters::Device(conv) => Some(ForDevice::Held(conv)),
            Parameters::Mapped(mapped) => mapped.brought(),
            Parameters::Dense(_) | Parameters::Panels(_) | Parameters::Packed(_) => None,
        }
    }

    /// Where it begins and ends in a map.
    pub(crate) fn window(&self, x: &Tensor<4>) -> Window {
        let ([_, _, h, w], pad) = (x.dims(), self.kernel / 2);
        let size = [h, w].map(|side| (side + 2 * pad - self.kernel) / self.stride + 1);
        Window { pad, stride: self.stride, size }
    }

    /// Rows of parameters, one for each output channel, as `[c_out, c_in, kernel, kernel]`.
    fn filters(&self, rows: Tensor<2>) -> Tensor<4> {
        let ([c_out, d_in], side) = (rows.dims(), self.kernel);
        rows.reshape([c_out, d_in / (side * side).max(1), side, side])
    }

    /// What Burn calls border and stride.
    pub(crate) fn options(&self) -> ConvOptions<2> {
        ConvOptions::new([self.stride; 2], [self.kernel / 2; 2], [1, 1], 1)
    }

    /// A product of packed parameters, and what is before and after it.
    pub(crate) fn convolve(&self, conv: &PackedConv, x: Tensor<4>, around: Around) -> Tensor<4> {
        let Around { norm, bias, residual, slopes } = around;
        let [b, _, h, w] = x.dims();
        let ([c_out, _, _], [oh, ow], stride) = (conv.shape(), conv.size([h, w], self.stride), self.stride);
        match conv.order() {
            MapOrder::Planes => {
                // What the norm has read is gone before there is a map of the result.
                let x = match norm {
                    Some(norm) => norm.maps(x),
                    None => x,
                };
                let x = Values::of(&x).expect(F32);
                let residual = residual.map(|residual| Values::of(residual).expect(F32));
                let epilogue = ConvEpilogue { bias, activation: None, residual: residual.as_deref(), slopes };
                cpu::tensor([b, c_out, oh, ow], |out| kernels::conv2d(conv, &x, b, [h, w], stride, epilogue, out))
            }
            MapOrder::Pixels => {
                let x = Values::by_pixels(&x).expect(F32);
                let residual = residual.map(|residual| Values::by_pixels(residual).expect(F32));
                let epilogue = ConvEpilogue { bias, activation: None, residual: residual.as_deref(), slopes };
                let affines = norm.map(|norm| norm.affines(&x, b));
                let map = cpu::tensor([b, oh, ow, c_out], |out| match &affines {
                    Some((Affines { scale, shift }, activation)) => {
                        let prologue = Prologue { scale, shift, activation: *activation };
                        kernels::conv2d_after(conv, prologue, &x, b, [h, w], stride, epilogue, out)
                    }
                    None => kernels::conv2d(conv, &x, b, [h, w], stride, epilogue, out),
                });
                let map = map.permute(PLANES);
                if c_out < FEW { cpu::row_major(map) } else { map }
            }
        }
    }
}

/// Parameters on a device, to be dropped once what is computed with them is asked for.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "what passes is a handle of fixed size, and one of them is there at a time"
)]
pub(crate) enum ForDevice<'a> {
    Held(&'a gpu::Conv),
    /// In memory that others pass through.
    Passing(gpu::Conv, #[allow(dead_code, reason = "the memory is others' when it is dropped")] Brought),
}

impl Deref for ForDevice<'_> {
    type Target = gpu::Conv;

    fn deref(&self) -> &gpu::Conv {
        match self {
            Self::Held(conv) => conv,
            Self::Passing(conv, _) => conv,
        }
    }
}

/// What is done to maps before they are convolved: a norm, and what follows it.
pub(crate) trait Before {
    /// The maps that it makes.
    fn maps(&self, x: Tensor<4>) -> Tensor<4>;

    /// What it does to each channel of `b` maps that lie pixel by pixel, and the function that follows.
    fn affines(&self, x: &[f32], b: usize) -> (Affines, Option<Activation>);
}

/// What is before a convolution and after it, each part optional.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    pub(crate) norm: Option<&'a dyn Before>,
    /// `[c_out]` or `[b, c_out]`
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<&'a Tensor<4>>,
    /// `[c_out]`, what values below zero are multiplied with at last.
    pub(crate) slopes: Option<&'a [f32]>,
}

impl Weight<Convolution> {
    /// The same over every `stride`th pixel in each direction.
    #[must_use]
    pub(crate) fn strided(mut self, stride: usize) -> Self {
        self.own.stride = stride;
        self.branches.strided(stride);
        self
    }
}

impl Weight<Convolution> {
    /// The weight's product with `x` `[b, c_in, h, w]`, and what the branches add to it.
    pub fn product(&self, x: Tensor<4>) -> Tensor<4> {
        let Beside { pair, others } = self.beside();
        let y = self.own.product(x.clone());
        let y = match pair {
            Some(pair) => pair.onto(y, x.clone()).expect(PAIR),
            None => y,
        };
        self.others_onto(&others, y, &x)
    }
}

/// The factors of a branch of a convolution. The first that has its kernel has its stride: the others are of 1 × 1 and see what this one
/// leaves.
pub(super) fn strided(mut factors: Vec<Convolution>, kernel: usize, stride: usize) -> Vec<Convolution> {
    if let Some(factor) = factors.iter_mut().find(|factor| factor.kernel == kernel) {
        factor.stride = stride;
    }
    factors
}

impl Factor<4> for Convolution {
    fn product(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.parameters {
            Parameters::Dense(weight) => module::conv2d(x, weight.clone(), None, self.options()),
            Parameters::Packed(packed) => module::conv2d(x, self.filters(packed.unpacked()), None, self.options()),
            Parameters::Panels(conv) => self.convolve(conv, x, Around::default()),
            Parameters::Device(conv) => conv.convolve(x.clone(), self.window(&x), None, None),
            Parameters::Mapped(mapped) => match mapped.brought() {
                Some(conv) => conv.convolve(x.clone(), self.window(&x), None, None),
                None => mapped.product(self, &x),
            },
        }
    }
}

/// `[c_out, c_in, kernel]`
fn shape_of(stored: &Stored) -> [usize; 3] {
    [0, 1, 2].map(|i| stored.shape()[i])
}

fn packed(stored: &Stored, compute: Compute) -> PackedConv {
    let shape = shape_of(stored);
    stored.with_values(|values| PackedConv::pack(cpu::isa(), compute, shape, values)).expect(FLOATS)
}

/// Parameters in memory, as they are multiplied with where they are.
fn in_memory(stored: &Stored, device: &Device, compute: Compute) -> Parameters {
    if cpu::is(device) {
        return Parameters::Panels(packed(stored, compute));
    }
    if let Some(packed) = as_stored(stored, device, compute) {
        return Parameters::Packed(packed);
    }
    let values = stored.to_f32().expect(FLOATS);
    match gpu::Conv::upload(&values, shape_of(stored), compute, device) {
        Some(conv) => Parameters::Device(conv),
        None => Parameters::Dense(tensor(values, [0, 1, 2, 3].map(|i| stored.shape()[i]), device)),
    }
}

/// Parameters as they are stored, on a device without kernels of ours: those read them in another order.
fn as_stored(stored: &Stored, device: &Device, compute: Compute) -> Option<Packed> {
    let at = Some(Place::of(device, compute)).filter(|at| *at == Place::Other)?;
    let (rows, all) = (stored.shape()[0], stored.shape().iter().product::<usize>());
    let matrix = stored.clone().reshape(vec![rows, all.checked_div(rows)?]);
    matrix.brought(matrix.packing(at)?, device, compute)
}

/// Parameters that stay in their file, or are computed, and are unpacked some output channels at a time.
#[derive(Debug)]
pub(crate) struct MappedConv {
    origin: Origin,
    device: Device,
    compute: Compute,
    /// Where they have their turn among others of their source.
    seat: Option<Seat>,
}

impl MappedConv {
    /// All of them, brought to the device; `None` where nothing is brought ahead of its use.
    fn brought(&self) -> Option<ForDevice<'_>> {
        let Origin::Stored(stored) = &self.origin else { return None };
        let brought = self.seat.as_ref()?.bring()?;
        let conv = gpu::Conv::of(brought.unpacked(), shape_of(stored), self.compute)?;
        Some(ForDevice::Passing(conv, brought))
    }

    fn product(&self, of: &Convolution, x: &Tensor<4>) -> Tensor<4> {
        let out = self.origin.height();
        let panel = |channel: usize| {
            let stored = self.origin.rows(channel..(channel + PANEL).min(out));
            let parameters = in_memory(&stored, &self.device, self.compute);
            Convolution { parameters, kernel: of.kernel, stride: of.stride }.product(x.clone())
        };
        let panels: Vec<_> = (0..out).step_by(PANEL).map(panel).collect();
        // One of few channels leaves a device in another number format than those before it.
        let first = panels[0].clone();
        Tensor::cat(panels.into_iter().map(|panel| in_format_of(panel, &first)).collect(), 1)
    }
}
