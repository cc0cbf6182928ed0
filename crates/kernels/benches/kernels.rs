//! The kernels one by one, for comparing a change with what was before: `cargo bench --workspace --bench kernels`.
//!
//! `cargo xtask bench` measures them as shares of the machine's own limits, and next to other programs.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{hint::black_box, mem::MaybeUninit, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    Activation, Affine, Compute, ConvEpilogue, Epilogue, Heads, HugePages, Isa, Mask, PackedConv, PackedMatrix, Scores,
    Values,
};

#[global_allocator]
static ALLOCATOR: HugePages = HugePages::new(1 << 30);

const COMPUTES: [Compute; 2] = [Compute::F32, Compute::Bf16];

fn linear(c: &mut Criterion) {
    let isa = Isa::best();
    let mut group = c.benchmark_group("linear");
    for (rows, d_out, d_in) in [(1536, 3072, 3072), (77, 3072, 3072), (1, 3072, 3072)] {
        let (x, w) = (numbers(rows * d_in), numbers(d_out * d_in));
        let mut out = space(rows * d_out);
        group.throughput(Throughput::Elements(2 * (rows * d_out * d_in) as u64));
        for compute in COMPUTES {
            let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&w));
            group.bench_function(format!("{rows}x{d_out}x{d_in} {compute:?}"), |b| {
                b.iter(|| _ = kernels::linear(&packed, black_box(&x), rows, d_in, Epilogue::default(), &mut out));
            });
        }
    }
}

fn convolution(c: &mut Criterion) {
    let isa = Isa::best();
    let mut group = c.benchmark_group("conv2d");
    for (channels, kernel, side) in [(320, 3, 64), (1280, 3, 8), (640, 1, 32)] {
        let (x, w) = (numbers(channels * side * side), numbers(channels * channels * kernel * kernel));
        let mut out = space(channels * side * side);
        group.throughput(Throughput::Elements(2 * (w.len() * side * side) as u64));
        for compute in COMPUTES {
            let packed = PackedConv::pack(isa, compute, [channels, channels, kernel], Values::F32(&w));
            group.bench_function(format!("{kernel}x{kernel} {channels} @{side} {compute:?}"), |b| {
                let epilogue = ConvEpilogue::default();
                b.iter(|| _ = kernels::conv2d(&packed, black_box(&x), 1, [side, side], 1, epilogue, &mut out));
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    let isa = Isa::best();
    let mut group = c.benchmark_group("attention");
    for (heads, tokens, d) in [(24, 512, 128), (8, 1024, 40)] {
        let all = [(); 3].map(|()| numbers(heads * tokens * d));
        let view = |x| Heads::new(x, [1, heads, tokens, d], [0, d, heads * d]).expect("as large as its values");
        let [q, k, v] = [view(&all[0]), view(&all[1]), view(&all[2])];
        let mut out = space(heads * tokens * d);
        let scores = Scores { scale: 1.0 / (d as f32).sqrt(), bias: None, mask: Mask::None };
        group.throughput(Throughput::Elements(4 * (heads * tokens * tokens * d) as u64));
        for compute in COMPUTES {
            group.bench_function(format!("{heads}x{tokens}x{d} {compute:?}"), |b| {
                b.iter(|| _ = kernels::attention(isa, compute, black_box(q), k, v, scores, &mut out));
            });
        }
    }
}

fn rows(c: &mut Criterion) {
    let isa = Isa::best();
    let (rows, d) = (1536, 3072);
    let (x, y, scale) = (numbers(rows * d), numbers(rows * d), numbers(d));
    let mut out = space(rows * d);
    let mut group = c.benchmark_group("rows");
    group.throughput(Throughput::Bytes(2 * size_of_val(x.as_slice()) as u64));
    for activation in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu] {
        group.bench_function(format!("{activation:?}"), |b| {
            b.iter(|| _ = kernels::activate(isa, activation, black_box(&x), &mut out));
        });
    }
    group.bench_function("add", |b| b.iter(|| _ = kernels::add(isa, black_box(&x), &y, &mut out)));
    group.bench_function("layer_norm", |b| {
        let affine = Affine::Modulated { scale: &scale, shift: &scale, rows };
        b.iter(|| _ = kernels::layer_norm(isa, black_box(&x), d, 1e-6, affine, &mut out));
    });
    group.bench_function("rms_norm", |b| {
        b.iter(|| _ = kernels::rms_norm(isa, black_box(&x), d, &scale, 1e-6, &mut out));
    });
}

/// Numbers between -1 and 1, always the same.
fn numbers(n: usize) -> Vec<f32> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    let mut state = 1;
    std::iter::from_fn(|| next(&mut state)).take(n).collect()
}

fn space(n: usize) -> Vec<MaybeUninit<f32>> {
    vec![MaybeUninit::new(0.0); n]
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
    targets = linear, convolution, attention, rows
}
criterion_main!(kernels);
