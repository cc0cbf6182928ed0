//! Products that are too large to be made at once: their inputs are cut into passes, their rows and pixels into tasks, keys into blocks.
//!
//! But for attention's they are in whole numbers so small that every level computes them exactly.

mod given;

use kernels::{Compute, ConvEpilogue, Epilogue, Heads, Isa, MapOrder, Mask, PackedConv, PackedMatrix, Scores, Values};

use given::on;

fn kinds() -> Vec<(Isa, Compute)> {
    Isa::available().into_iter().flat_map(|isa| [(isa, Compute::F32), (isa, Compute::Bf16)]).collect()
}

/// Whole numbers from -2 to 2.
fn whole(n: usize, seed: u64) -> Vec<f32> {
    given::numbers(n, seed).into_iter().map(|v| (v * 2.5).trunc()).collect()
}

#[test]
fn many_rows_of_many_inputs_are_multiplied_each_with_each() {
    // given more inputs than a pass has, and more rows than a task of such a pass
    let [rows, d_in, d_out] = if cfg!(miri) { [3, 600, 3] } else { [400, 3100, 70] };
    let (x, w) = (whole(rows * d_in, 1), whole(d_out * d_in, 2));
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    let expected: Vec<f32> = x.chunks(d_in).flat_map(|x| w.chunks(d_in).map(move |w| dot(x, w))).collect();
    for (isa, compute) in kinds() {
        let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&w));
        for threads in [1, 3] {
            let y = on(threads, rows * d_out, |out| kernels::linear(&packed, &x, rows, d_in, Epilogue::default(), out));
            assert!(y == expected, "{isa:?} {compute:?} {threads} threads");
        }
    }
}

#[test]
fn many_pixels_of_many_channels_are_convolved_each_with_its_patch() {
    // given more channels and places of a kernel than a pass has, and more pixels than a task of such a pass
    let [c_in, c_out, h, w] = if cfg!(miri) { [40, 3, 3, 4] } else { [420, 40, 36, 38] };
    let (x, weights) = (whole(c_in * h * w, 1), whole(c_out * c_in * 9, 2));
    for (isa, compute) in kinds() {
        let conv = PackedConv::pack(isa, compute, [c_out, c_in, 3], Values::F32(&weights));
        // where a pixel's channel is, of so many, in the order of the maps
        let is_planes = conv.order() == MapOrder::Planes;
        let ordered: Vec<f32> =
            (0..x.len()).map(|i| if is_planes { x[i] } else { x[i % c_in * h * w + i / c_in] }).collect();
        for stride in [1, 2] {
            let [oh, ow] = conv.size([h, w], stride);
            let y = on(3, c_out * oh * ow, |out| {
                kernels::conv2d(&conv, &ordered, 1, [h, w], stride, ConvEpilogue::default(), out)
            });
            // every seventh channel says as much as all of them
            for (o, pixel) in (0..c_out).step_by(7).flat_map(|o| (0..oh * ow).map(move |pixel| (o, pixel))) {
                let mut expected = 0.0;
                for (ky, kx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                    let (row, column) = (pixel / ow * stride + ky, pixel % ow * stride + kx);
                    if (1..=h).contains(&row) && (1..=w).contains(&column) {
                        let at = (row - 1) * w + column - 1;
                        expected += (0..c_in)
                            .map(|c| x[c * h * w + at] * weights[(o * c_in + c) * 9 + ky * 3 + kx])
                            .sum::<f32>();
                    }
                }
                let found = y[if is_planes { o * oh * ow + pixel } else { pixel * c_out + o }];
                assert_eq!(found, expected, "{isa:?} {compute:?} stride {stride}, channel {o} of pixel {pixel}");
            }
        }
    }
}

#[test]
fn a_map_that_is_larger_than_the_caches_is_written_whole() {
    let [c_in, c_out, h, w] = if cfg!(miri) { [3, 32, 2, 3] } else { [3, 32, 256, 513] };
    let weights = whole(c_out * c_in, 1);
    for isa in Isa::available() {
        let conv = PackedConv::pack(isa, Compute::Bf16, [c_out, c_in, 1], Values::F32(&weights));
        if conv.order() == MapOrder::Planes {
            continue;
        }
        let x = whole(h * w * c_in, 2);
        // at an address that is a multiple of 64, which such stores ask for
        let len = h * w * c_out;
        let mut room = vec![std::mem::MaybeUninit::new(f32::NAN); len + 16];
        let first = room.as_ptr().align_offset(64);
        let y = kernels::conv2d(&conv, &x, 1, [h, w], 1, ConvEpilogue::default(), &mut room[first..][..len]);
        for (y, x) in y.chunks(c_out).zip(x.chunks(c_in)) {
            let expected = weights.chunks(c_in).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>());
            assert!(y.iter().copied().eq(expected), "{isa:?}");
        }
    }
}

#[test]
fn attention_to_several_blocks_of_keys_is_one_softmax_over_all_of_them() {
    let (n, m, d) = if cfg!(miri) { (2, 520, 3) } else { (560, 600, 70) };
    let [q, k, v] = [(n, 1), (m, 2), (m, 3)].map(|(n, seed)| given::numbers(n * d, seed));
    let view = |x, n| Heads::new(x, [1, 1, n, d], [n * d, n * d, d]).expect("in bounds");
    let scale = 0.3;
    for mask in [Mask::None, Mask::Causal] {
        let mut expected = Vec::new();
        let mut norm = 0.0;
        for (i, q) in q.chunks(d).enumerate() {
            let seen = if matches!(mask, Mask::Causal) { i + 1 } else { m };
            let dot = |k: &[f32]| q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>();
            let weights: Vec<f64> = k.chunks(d).take(seen).map(|k| (dot(k) * f64::from(scale)).exp()).collect();
            let total: f64 = weights.iter().sum();
            for c in 0..d {
                let parts = || weights.iter().zip(v.chunks(d)).map(|(weight, v)| weight * f64::from(v[c]) / total);
                expected.push(parts().sum::<f64>());
                // An error of the scores is one of every weight, and the weights' errors may agree.
                norm += parts().map(f64::abs).sum::<f64>().powi(2);
            }
        }
        for (isa, compute) in kinds() {
            let y = on(3, n * d, |out| {
                let scores = Scores { scale, bias: None, mask };
                kernels::attention(isa, compute, view(&q, n), view(&k, m), view(&v, m), scores, out)
            });
            let error: f64 = y.iter().zip(&expected).map(|(&y, e)| (f64::from(y) - e).powi(2)).sum();
            // As of one block: four factors that are rounded, to bf16 or in sums of f32.
            let most = if compute == Compute::Bf16 && isa.has_bf16() { 8e-3 } else { 4e-6 };
            assert!((error / norm).sqrt() <= most, "{isa:?} {compute:?} {mask:?}: {}", (error / norm).sqrt());
        }
    }
}
