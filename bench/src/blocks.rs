//! Blocks of whole layers at their true shapes, with random weights.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use core_tensor::{
    Compute, Declare, Device, Error, Format, Layout, Manifest, Residency, Stored, Tensor, WeightSource, Weights,
    layers::{Added, Conv2d, GroupNorm, Linear},
    ops::{self, Activation},
    tensor,
};
use diffusion_engine::{Inside, Look, Site};
use flux::{Dimensions, Inputs, Transformer, TransformerConfig};

use crate::{
    operations::numbers,
    report::{Report, middle},
};

const HIDDEN: usize = 3072; // black-forest-labs/FLUX.1-dev: hidden_size
const HEADS: usize = 24; // the same: num_heads
pub(crate) const IMAGE_SIDE: usize = 32; // a picture of 512 x 512
pub(crate) const TEXT: usize = 512; // T5 tokens of dev
/// Width of what goes into the transformer; small, as only its blocks are timed.
pub(crate) const INPUT: usize = 64;

/// One block of each kind of Flux, hidden 3072, 24 heads, 1024 image and 512 text tokens.
pub(crate) fn flux(report: &mut Report) -> Result<(), Box<dyn std::error::Error>> {
    const DOUBLE: &str = "flux double block 1024+512";
    const SINGLE: &str = "flux single block 1536";
    if !report.wants(DOUBLE) && !report.wants(SINGLE) {
        return Ok(());
    }
    let image = IMAGE_SIDE * IMAGE_SIDE;
    let tokens = (image + TEXT) as f64;
    let linear = 2.0 * 12.0 * (HIDDEN * HIDDEN) as f64 * tokens;
    let work = linear + 4.0 * tokens * tokens * HIDDEN as f64;
    let source = Random::of(&FLUX.layout());
    let device = Device::flex();
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&source, &device, Residency::Unpacked).computed_in(compute);
        let transformer = Transformer::load(&weights, &TransformerConfig::default())?;
        let pe = transformer.positions(TEXT, IMAGE_SIDE, IMAGE_SIDE);
        let clock = Arc::new(Mutex::new(Clock { last: Instant::now(), double: Vec::new(), single: Vec::new() }));
        let (watched, ticking) = (clock.clone(), Look(move |at: Site, _: &Tensor<3>| locked(&clock).passed(at)));
        let inside = Inside::default().with(Arc::new(ticking));
        let until = Instant::now() + Duration::from_secs(5);
        while locked(&watched).double.len() < 5 || Instant::now() < until {
            let inputs = Inputs {
                img: random([1, image, INPUT]),
                control: None,
                txt: random([1, TEXT, INPUT]),
                vec: random([1, INPUT]),
                timestep: 0.5,
                guidance: 0.0,
                pe: &pe,
            };
            locked(&watched).last = Instant::now();
            transformer.forward(inputs, &inside)?;
        }
        let Clock { double, single, .. } = &mut *locked(&watched);
        // The first calls fill the allocator's free lists.
        report.measured(DOUBLE, Some(compute), work, middle(double.split_off(1)));
        report.measured(SINGLE, Some(compute), work, middle(single.split_off(1)));
    }
    Ok(())
}

/// How long each block took.
struct Clock {
    last: Instant,
    double: Vec<f64>,
    single: Vec<f64>,
}

impl Clock {
    fn passed(&mut self, at: Site) {
        let seconds = self.last.elapsed().as_secs_f64();
        match (at.block, at.stream) {
            ("double_blocks", Some("txt")) => self.double.push(seconds),
            ("single_blocks", _) => self.single.push(seconds),
            _ => return,
        }
        self.last = Instant::now();
    }
}

fn locked(clock: &Mutex<Clock>) -> MutexGuard<'_, Clock> {
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transformer of one block of each kind.
pub(crate) const FLUX: Dimensions = Dimensions {
    in_channels: INPUT,
    beside: 0,
    context: INPUT,
    pooled: INPUT,
    hidden: HIDDEN,
    mlp: 4 * HIDDEN,
    heads: HEADS,
    double_blocks: 1,
    single_blocks: 1,
    guidance: false,
    axes: [16, 56, 56],
};

/// The residual blocks of SD 1.5's UNet at 512 x 512: two convolutions, the norms before them, and the timestep's part.
pub(crate) fn resnets(report: &mut Report) -> Result<(), Error> {
    for (channels, side) in [(320, 64), (640, 32), (1280, 16)] {
        let case = format!("resnet {channels} @{side}");
        if !report.wants(&case) {
            continue;
        }
        let source = Random::of(&Layout::of(|l| Resnet::declare(l, channels)));
        for compute in [Compute::F32, Compute::Bf16] {
            let device = Device::flex();
            let weights = Weights::of(&source, &device, Residency::Unpacked).computed_in(compute);
            let block = Resnet::load(&weights.laid_out(Layout::of(|l| Resnet::declare(l, channels))))?;
            let (x, time) = (random([1, channels, side, side]), random([1, Resnet::TIME]));
            let work = 2.0 * 2.0 * (9 * channels * channels * side * side) as f64;
            report.case(&case, Some(compute), work, || drop(block.forward(x.clone(), time.clone())));
        }
    }
    Ok(())
}

/// diffusers' `ResnetBlock2D` with as many channels out as in.
struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
}

impl Resnet {
    const TIME: usize = 1280; // SD 1.5: time_embed_dim

    fn declare(l: &mut Declare, channels: usize) {
        l.norm("norm1", channels);
        l.convolution("conv1", channels, channels, 3);
        l.linear("time_emb_proj", Self::TIME, channels);
        l.norm("norm2", channels);
        l.convolution("conv2", channels, channels, 3);
    }

    fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self {
            norm1: GroupNorm::load(&w.at("norm1"), 32, 1e-5)?,
            conv1: Conv2d::load(&w.at("conv1"))?,
            time_emb_proj: Linear::load(&w.at("time_emb_proj"))?,
            norm2: GroupNorm::load(&w.at("norm2"), 32, 1e-5)?,
            conv2: Conv2d::load(&w.at("conv2"))?,
        })
    }

    fn forward(&self, x: Tensor<4>, time: Tensor<2>) -> Tensor<4> {
        let silu = Some(Activation::Silu);
        let time = Added { shift: Some(self.time_emb_proj.forward(ops::silu(time))), residual: None };
        let inner = self.conv1.forward_normed(&self.norm1, silu, x.clone(), time);
        self.conv2.forward_normed(&self.norm2, silu, inner, Added { shift: None, residual: Some(x) })
    }
}

/// Tensors of small random numbers, made when they are read.
pub(crate) struct Random(Manifest);

impl Random {
    pub(crate) fn of(layout: &Layout) -> Self {
        Self(layout.needs().iter().map(|need| (need.name.as_str(), Format::F32, need.shape.clone())).collect())
    }

    /// Of the names and shapes of another source.
    pub(crate) fn like(source: &dyn WeightSource) -> Self {
        let manifest = source.manifest();
        Self(manifest.under("").map(|(name, form)| (name, Format::F32, form.shape.to_vec())).collect())
    }
}

impl WeightSource for Random {
    fn label(&self) -> &str {
        "random numbers"
    }

    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let shape = self.0.get(name).ok_or_else(missing)?.shape.to_vec();
        let values = numbers(shape.iter().product()).into_iter().map(|v| v / 32.0).collect::<Vec<_>>();
        Ok(Stored::of(&values, shape))
    }
}

pub(crate) fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    tensor(numbers(shape.iter().product()), shape, &Device::flex())
}
