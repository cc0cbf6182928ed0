//! Blocks of whole layers at their true shapes, with random weights.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use core_tensor::{
    Compute, Device, Error, Format, Manifest, Residency, Stored, Tensor, WeightSource, Weights,
    layers::{Conv2d, GroupNorm, Linear},
    ops, tensor,
};
use diffusion_engine::{Inside, Look, Site};
use flux::{Hints, Inputs, Transformer};

use crate::{
    operations::numbers,
    report::{Report, middle},
};

const HIDDEN: usize = 3072; // black-forest-labs/FLUX.1-dev: hidden_size
const HEADS: usize = 24; // the same: num_heads
const IMAGE_SIDE: usize = 32; // a picture of 512 x 512
const TEXT: usize = 512; // T5 tokens of dev
/// Width of what goes into the transformer; small, as only its blocks are timed.
const INPUT: usize = 64;

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
    let source = Random::of(flux_tensors());
    let device = Device::flex();
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&source, &device, Residency::Unpacked).computed_in(compute);
        let transformer = Transformer::load(&weights, &Hints::default())?;
        let pe = transformer.positions(TEXT, IMAGE_SIDE, IMAGE_SIDE);
        let clock = Arc::new(Mutex::new(Clock { last: Instant::now(), double: Vec::new(), single: Vec::new() }));
        let (watched, ticking) = (clock.clone(), Look(move |at: Site, _: &Tensor<3>| locked(&clock).passed(at)));
        let inside = Inside::default().with(Arc::new(ticking));
        let until = Instant::now() + Duration::from_secs(5);
        while locked(&watched).double.len() < 5 || Instant::now() < until {
            let inputs = Inputs {
                img: random([1, image, INPUT]),
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

fn flux_tensors() -> Vec<(String, Vec<usize>)> {
    const TIME: usize = 256;
    let head = HIDDEN / HEADS;
    let mut linears = vec![
        ("img_in".to_owned(), HIDDEN, INPUT),
        ("txt_in".into(), HIDDEN, INPUT),
        ("time_in.in_layer".into(), HIDDEN, TIME),
        ("time_in.out_layer".into(), HIDDEN, HIDDEN),
        ("vector_in.in_layer".into(), HIDDEN, INPUT),
        ("vector_in.out_layer".into(), HIDDEN, HIDDEN),
        ("single_blocks.0.linear1".into(), 7 * HIDDEN, HIDDEN),
        ("single_blocks.0.linear2".into(), HIDDEN, 5 * HIDDEN),
        ("single_blocks.0.modulation.lin".into(), 3 * HIDDEN, HIDDEN),
        ("final_layer.linear".into(), INPUT, HIDDEN),
        ("final_layer.adaLN_modulation.1".into(), 2 * HIDDEN, HIDDEN),
    ];
    let mut scales = vec!["single_blocks.0.norm".to_owned()];
    for stream in ["img", "txt"] {
        let name = |layer: &str| format!("double_blocks.0.{stream}_{layer}");
        linears.push((name("mod.lin"), 6 * HIDDEN, HIDDEN));
        linears.push((name("attn.qkv"), 3 * HIDDEN, HIDDEN));
        linears.push((name("attn.proj"), HIDDEN, HIDDEN));
        linears.push((name("mlp.0"), 4 * HIDDEN, HIDDEN));
        linears.push((name("mlp.2"), HIDDEN, 4 * HIDDEN));
        scales.push(name("attn.norm"));
    }
    let linears = linears.into_iter().flat_map(|(name, d_out, d_in)| {
        [(format!("{name}.weight"), vec![d_out, d_in]), (format!("{name}.bias"), vec![d_out])]
    });
    let scales = scales.into_iter().flat_map(|name| {
        [(format!("{name}.query_norm.scale"), vec![head]), (format!("{name}.key_norm.scale"), vec![head])]
    });
    linears.chain(scales).collect()
}

/// The residual blocks of SD 1.5's UNet at 512 x 512: two convolutions, the norms before them, and the timestep's part.
pub(crate) fn resnets(report: &mut Report) -> Result<(), Error> {
    for (channels, side) in [(320, 64), (640, 32), (1280, 16)] {
        let case = format!("resnet {channels} @{side}");
        if !report.wants(&case) {
            continue;
        }
        let source = Random::of(Resnet::tensors(channels));
        for compute in [Compute::F32, Compute::Bf16] {
            let device = Device::flex();
            let weights = Weights::of(&source, &device, Residency::Unpacked).computed_in(compute);
            let block = Resnet::load(&weights, channels)?;
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

    fn tensors(channels: usize) -> Vec<(String, Vec<usize>)> {
        let shapes = [
            ("norm1", vec![channels]),
            ("conv1", vec![channels, channels, 3, 3]),
            ("time_emb_proj", vec![channels, Self::TIME]),
            ("norm2", vec![channels]),
            ("conv2", vec![channels, channels, 3, 3]),
        ];
        let both = |(name, shape): (&str, Vec<usize>)| {
            [(format!("{name}.weight"), shape), (format!("{name}.bias"), vec![channels])]
        };
        shapes.into_iter().flat_map(both).collect()
    }

    fn load(w: &Weights, channels: usize) -> Result<Self, Error> {
        Ok(Self {
            norm1: GroupNorm::load(&w.at("norm1"), channels, 32, 1e-5)?,
            conv1: Conv2d::load(&w.at("conv1"), channels, channels, 3)?,
            time_emb_proj: Linear::load(&w.at("time_emb_proj"), Self::TIME, channels)?,
            norm2: GroupNorm::load(&w.at("norm2"), channels, 32, 1e-5)?,
            conv2: Conv2d::load(&w.at("conv2"), channels, channels, 3)?,
        })
    }

    fn forward(&self, x: Tensor<4>, time: Tensor<2>) -> Tensor<4> {
        let inner = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let time: Tensor<4> = self.time_emb_proj.forward(ops::silu(time)).unsqueeze_dims(&[2, 3]);
        self.conv2.forward_onto(self.norm2.forward_silu(inner + time), x)
    }
}

/// Tensors of small random numbers, made when they are read.
struct Random(Manifest);

impl Random {
    fn of(shapes: Vec<(String, Vec<usize>)>) -> Self {
        Self(shapes.into_iter().map(|(name, shape)| (name, Format::F32, shape)).collect())
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

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    tensor(numbers(shape.iter().product()), shape, &Device::flex())
}
