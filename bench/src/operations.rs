//! Single kernels at the shapes that models call them with.

use std::mem::MaybeUninit;

use core_tensor::{Device, tensor};
use kernels::{
    Activation, Affine, Compute, ConvEpilogue, Epilogue, Heads, Isa, Mask, PackedConv, PackedMatrix, Scores, Values,
};

use crate::report::{Report, median};

pub(crate) fn products(isa: Isa, report: &mut Report) {
    for (rows, d_out, d_in) in [(4096, 3072, 3072), (1536, 9216, 3072), (1536, 3072, 12288), (77, 3072, 3072)] {
        let (x, w) = (numbers(rows * d_in), numbers(d_out * d_in));
        let mut out = space(rows * d_out);
        let case = format!("linear {rows}x{d_out}x{d_in}");
        if !report.wants(&case) {
            continue;
        }
        for compute in [Compute::F32, Compute::Bf16] {
            let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&w));
            let work = 2.0 * (rows * d_out * d_in) as f64;
            report.case(&case, Some(compute), work, || {
                kernels::linear(&packed, &x, rows, d_in, Epilogue::default(), &mut out);
            });
        }
        let device = Device::flex();
        let (x, w) = (tensor(x, [rows, d_in], &device), tensor(w, [d_out, d_in], &device).transpose());
        let seconds = median(|| drop(x.clone().matmul(w.clone())));
        report.compare(&case, Compute::F32, "Burn flex (crate gemm)", seconds);
    }
}

pub(crate) fn convolutions(isa: Isa, report: &mut Report) {
    for (c_in, c_out, kernel, side) in [
        (320, 320, 3, 64),
        (640, 640, 3, 32),
        (1280, 1280, 3, 16),
        (1280, 1280, 3, 8),
        (640, 320, 1, 64),
        (512, 512, 3, 128),
    ] {
        let case = format!("conv {kernel}x{kernel} {c_in}->{c_out} @{side}");
        if !report.wants(&case) {
            continue;
        }
        let (x, w) = (numbers(c_in * side * side), numbers(c_out * c_in * kernel * kernel));
        let mut out = space(c_out * side * side);
        for compute in [Compute::F32, Compute::Bf16] {
            let packed = PackedConv::pack(isa, compute, [c_out, c_in, kernel], Values::F32(&w));
            let work = 2.0 * (c_out * c_in * kernel * kernel * side * side) as f64;
            report.case(&case, Some(compute), work, || {
                kernels::conv2d(&packed, &x, 1, [side, side], 1, ConvEpilogue::default(), &mut out);
            });
        }
    }
}

pub(crate) fn attention(isa: Isa, report: &mut Report) {
    for (heads, tokens, d) in [(24, 1536, 128), (8, 4096, 40), (1, 4096, 512)] {
        let case = format!("attention {heads}x{tokens}x{d}");
        if !report.wants(&case) {
            continue;
        }
        let all = [(); 3].map(|()| numbers(heads * tokens * d));
        let view =
            |x| Heads::new(x, [1, heads, tokens, d], [0, d, heads * d]).expect("the view is as large as its values");
        let [q, k, v] = [view(&all[0]), view(&all[1]), view(&all[2])];
        let mut out = space(heads * tokens * d);
        let scores = Scores { scale: 1.0 / (d as f32).sqrt(), bias: None, mask: Mask::None };
        for compute in [Compute::F32, Compute::Bf16] {
            let work = 4.0 * (heads * tokens * tokens * d) as f64;
            report.case(&case, Some(compute), work, || {
                kernels::attention(isa, compute, q, k, v, scores, &mut out);
            });
        }
    }
}

pub(crate) fn rows(isa: Isa, report: &mut Report) {
    let (rows, d) = (4096, 3072);
    report.measure_memory_again(isa);
    let (x, y, scale) = (numbers(rows * d), numbers(rows * d), numbers(d));
    let mut out = space(rows * d);
    let bytes = |arrays: usize| (arrays * rows * d * size_of::<f32>()) as f64;
    for (name, activation) in
        [("gelu_tanh", Activation::GeluTanh), ("gelu_erf", Activation::GeluErf), ("silu", Activation::Silu)]
    {
        report.case(&format!("{name} [{rows}, {d}]"), None, bytes(2), || {
            kernels::activate(isa, activation, &x, &mut out);
        });
    }
    report.case(&format!("add [{rows}, {d}]"), None, bytes(3), || _ = kernels::add(isa, &x, &y, &mut out));
    report.case(&format!("layer_norm [{rows}, {d}]"), None, bytes(2), || {
        kernels::layer_norm(isa, &x, d, 1e-6, Affine::Modulated { scale: &scale, shift: &scale, rows }, &mut out);
    });
    report.case(&format!("rms_norm [{rows}, {d}]"), None, bytes(2), || {
        kernels::rms_norm(isa, &x, d, &scale, 1e-6, &mut out);
    });
    report.case(&format!("group_norm, silu [1, {d}, {rows}]"), None, bytes(2), || {
        kernels::group_norm(isa, &x, [1, d, rows], 32, &scale, &scale, 1e-6, Some(Activation::Silu), &mut out);
    });
}

/// Numbers between -1 and 1, always the same.
pub(crate) fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn space(n: usize) -> Vec<MaybeUninit<f32>> {
    vec![MaybeUninit::new(0.0); n]
}
